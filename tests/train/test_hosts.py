"""Two processes of four devices each train as one process does, and stop and go together."""

import json
import re
import signal
import time
from collections import Counter

import jax
import numpy as np
import pytest
from host_processes import Command, rows, saved, steps, write_proteins

from biofm_jax.data.protein import ProteinData
from biofm_jax.experiment import Experiment, load_encoder
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

STEPS, EVERY = 32, 8
HALF = STEPS - EVERY

# A process that gives its devices each step late: it waits for the one before and then sleeps.
LATE = """
import time, jax
from biofm_jax.train import stragglers
begin, given = stragglers.Pace.begin, stragglers.Pace.given
def late(self):
    jax.block_until_ready(getattr(self, "last", 0))
    time.sleep(0.3)
    begin(self)
def keep(self, metrics):
    self.last = metrics
    given(self, metrics)
stragglers.Pace.begin, stragglers.Pace.given = late, keep
"""
# A process that cannot read its part of the newest checkpoint.
TORN = """
from biofm_jax.train.checkpoint import Checkpoints
read = Checkpoints._read
def torn(self, step, *rest):
    if step == max(self.steps()):
        raise OSError("torn")
    return read(self, step, *rest)
Checkpoints._read = torn
"""
# Each process writes down the records that it trains on.
NOTE = """
import json, os
from biofm_jax.train import prefetch
draw = prefetch.Prefetch.__next__
def note(self):
    item = draw(self)
    with open(os.environ["NOTES"] + os.environ.get("BIOFM_PROCESS_ID", ""), "a") as file:
        examples = item.host.examples
        file.write(json.dumps(examples[examples >= 0].tolist()) + "\\n")
    return item
prefetch.Prefetch.__next__ = note
"""


def toy(fasta) -> Experiment:
    return Experiment(
        model=TransformerSpec(layers=1, width=16, heads=4, dropout=0.1),
        data=ProteinData(path=str(fasta), max_tokens=64, segments=4, holdout=0.1),
        objective=MaskedLM(),
        optimizer=OptimizerSpec(warmup=5, schedule="constant"),
        mesh=MeshSpec(data=2, fsdp=4),
        loop=LoopSpec(
            steps=STEPS, batch_size=8, log_every=1, checkpoint_every=EVERY, eval_every=EVERY
        ),
    )


class Runs:
    """Starts the command on one experiment."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "toy.json"
        experiment = toy(write_proteins(folder / "proteins.fasta"))
        self.file.write_text(json.dumps(experiment.to_json()))
        self.pairs, self.singles = Command(folder, devices=4), Command(folder, devices=8)

    def pair(self, workdir, *arguments, **options):
        return self.pairs.start(["train", self.file, "--workdir", workdir, *arguments], **options)

    def single(self, workdir, *arguments, **options):
        command = ["train", self.file, "--workdir", workdir, *arguments]
        return self.singles.start(command, count=1, **options)


def outputs(processes, codes=(0, 0)) -> list[str]:
    done = processes.finish()
    told = "\n".join(output[-3000:] for _, output in done)
    assert [code for code, _ in done] == list(codes), told
    return [output for _, output in done]


def assert_equal_runs(found, expected, tolerance=1e-5):
    assert list(found) == list(expected)
    for name in ("loss", "gradient_norm", "weight", "accuracy", "validation_loss"):
        kept = [[r[name] for r in run.values() if name in r] for run in (found, expected)]
        assert kept[0], name
        np.testing.assert_allclose(*kept, rtol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def finished(runs):
    """The workdirs and outputs of a single process of eight devices and of a pair.

    The second process of the pair is slow, and the pair stops eight steps earlier.
    """
    notes = str(runs.folder / "notes")
    both = {0: NOTE, 1: NOTE + LATE}
    single = runs.single(runs.folder / "single", plants={0: NOTE}, NOTES=notes)
    pair = runs.pair(runs.folder / "pair", "--loop.steps", HALF, plants=both, NOTES=notes)
    return {
        "single": (runs.folder / "single", outputs(single, [0])),
        "pair": (runs.folder / "pair", outputs(pair)),
    }


def test_losses_are_those_of_one_process(finished):
    single, pair = rows(finished["single"][0]), rows(finished["pair"][0])
    assert_equal_runs(pair, {s: row for s, row in single.items() if s <= HALF})
    assert json.loads((finished["pair"][0] / "run.json").read_text())["processes"] == 2


def test_shares_of_the_data_are_disjoint_and_complete(finished, runs):
    alone, first, second = (
        [json.loads(line) for line in (runs.folder / f"notes{i}").read_text().splitlines()]
        for i in ("", "0", "1")
    )
    for whole, *parts in zip(alone[:HALF], first[:HALF], second[:HALF], strict=True):
        assert parts[0] and parts[1] and Counter(whole) == Counter(parts[0]) + Counter(parts[1])


def test_the_slow_host_is_named(finished):
    workdir, (first, _) = finished["pair"]
    assert re.search(r"step \d+: .* \(process 1\) is slow: it keeps all waiting", first), first
    named = {row["slow_host"] for row in rows(workdir).values() if "slow_host" in row}
    assert any(name.endswith("(process 1)") for name in named)
    assert not any("slow_host" in row for row in rows(finished["single"][0]).values())


def test_only_the_first_process_reports(finished):
    first, second = finished["pair"][1]
    assert "trained" in first and "trained" not in second


def test_a_checkpoint_of_two_processes_goes_on_in_one_on_another_mesh(finished, runs):
    workdir = finished["pair"][0]
    mesh = ("--mesh.data", 1, "--mesh.fsdp", 2, "--mesh.tensor", 4)
    (output,) = outputs(runs.single(workdir, *mesh), [0])
    assert f"going on from step {HALF}" in output
    assert_equal_runs(rows(workdir), rows(finished["single"][0]))


def test_a_checkpoint_of_two_processes_is_read_on_one_device(finished):
    found, expected = (
        jax.device_get(load_encoder(str(finished[name][0])).params) for name in ("pair", "single")
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
    )


def test_stopped_killed_and_restarted(runs, finished):
    """SIGTERM to one of two, then kill -9 of the other; started again each time."""
    workdir = runs.folder / "broken"
    first = runs.pair(workdir, plants={1: LATE})
    # The workdir is in use: by process 0, for both.
    first.until((workdir / "run.json").exists)
    ((code, refused),) = runs.single(workdir).finish()
    assert code == 2 and "another run is writing to" in refused
    first.until(lambda: steps(workdir) >= 10)
    first.running[1].send_signal(signal.SIGTERM)
    told = outputs(first, [1, 1])
    last = saved(workdir)[-1]
    assert 10 <= last < STEPS and last == max(rows(workdir))
    for output in told:
        assert f"stopped by SIGTERM after step {last}, and it is saved" in output
    again = runs.pair(workdir, plants={1: LATE})
    again.until(lambda: steps(workdir) >= last + 2)
    again.running[0].kill()
    began = time.monotonic()
    (killed, _), (code, output) = again.finish(60)
    assert (killed, code) == (-9, 1) and time.monotonic() - began < 30
    assert re.search(r"\(process 0\) is gone without a word", output), output[-2000:]
    assert "goes on from the newest checkpoint" in output
    # What one process cannot read, neither goes on from.
    before = saved(workdir)
    for output in outputs(runs.pair(workdir, plants={1: TORN})):
        assert f"checkpoints/{before[-1]} is damaged: OSError: torn" in output
        assert f"going on from step {before[-2]}" in output
    assert_equal_runs(rows(workdir), rows(finished["single"][0]))


def test_a_loss_gone_wrong_names_the_records_of_both(runs):
    workdir = runs.folder / "diverged"
    wild = ("--optimizer.learning_rate", "1e38", "--loop.checkpoint_every", 1)
    said = outputs(runs.pair(workdir, *wild), [1, 1])
    for output in said:
        assert "is good" in output
        found = re.search(
            r"step (\d+): loss (nan|inf).*Records of the batch: (.*)\. the ch", output
        )
        assert saved(workdir)[-1] == int(found[1]) - 1
        named = found[3].split(", ")
        assert len(named) == len(set(named)) >= 8  # rows of the batch, each with a record


def test_a_process_that_fails_ends_the_other(runs):
    broken = """
from biofm_jax.data.protein import ProteinData
def missing(self):
    raise OSError("the disk of this host is gone")
ProteinData.open = missing
"""
    (_, first), (_, second) = done = runs.pair(runs.folder / "failed", plants={1: broken}).finish(
        90
    )
    assert [code for code, _ in done] == [1, 1]
    assert "Traceback" in second and "the disk of this host is gone" in second
    assert "(process 1) failed: OSError: the disk of this host is gone" in first


def test_hosts_of_other_versions_are_refused(runs):
    other = """
from biofm_jax.evaluate import provenance
versions = provenance.package_versions
provenance.package_versions = lambda: versions() | {"jax": "0.0.1"}
"""
    for output in outputs(runs.pair(runs.folder / "other", plants={1: other}), [2, 2]):
        assert re.search(
            r"\(process 1\) does not run what .*: versions\.jax is 0\.0\.1 there", output
        )
