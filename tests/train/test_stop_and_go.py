"""A run that is killed and started again trains as one that never stopped, to the last bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 150, 30

EXPERIMENT = f"""
from biofm_jax.data.protein import ProteinData
from biofm_jax.experiment import Experiment
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

experiment = Experiment(
    model=TransformerSpec(layers=2, width=32, heads=2, dropout=0.1),
    data=ProteinData(max_tokens=64, segments=4, holdout=0.1),
    objective=MaskedLM(),
    optimizer=OptimizerSpec(warmup=10),
    loop=LoopSpec(
        steps={STEPS}, batch_size=8, log_every=1, checkpoint_every={EVERY}, eval_every=50
    ),
)
"""


class Runner:
    """Starts the command on one experiment, with one compile cache for all processes."""

    def __init__(self, folder: Path):
        rng = np.random.default_rng(0)
        letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
        records = ["".join(rng.choice(letters, rng.integers(5, 90))) for _ in range(400)]
        self.fasta = folder / "proteins.fasta"
        self.fasta.write_text("".join(f">p{i}\n{r}\n" for i, r in enumerate(records)))
        self.experiment = folder / "toy.py"
        self.experiment.write_text(EXPERIMENT)
        self.folder = folder

    def start(self, workdir: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "biofm_jax.cli", "train", self.experiment]
        command += ["--data.path", self.fasta, "--workdir", workdir]
        settings = {
            "BIOFM_CACHE": str(self.folder / "cache"),
            "XLA_FLAGS": "",
            "COLUMNS": "200",
            # Small programs too are compiled by the first process alone.
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=os.environ | settings | {"BIOFM_CHECK_TYPES": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, workdir: Path) -> str:
        process = self.start(workdir)
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output[-3000:]
        return output


def losses(workdir: Path) -> dict[int, str]:
    """Step -> the loss as it was written, and the held-out loss where there is one."""
    found = {}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["step"] not in found, f"step {row['step']} was logged twice"
        kept = ("loss", "gradient_norm", "accuracy", "validation_loss")
        found[row["step"]] = json.dumps({name: row.get(name) for name in kept})
    return found


def wait_for(process, condition, seconds=150):
    """Poll until the condition holds; the process must not end before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.002)
    process.kill()
    raise AssertionError("the run did not get that far")


def lines(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill(process) -> None:
    process.kill()
    process.communicate()


def saved(workdir: Path) -> list[int]:
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("stop_and_go"))


@pytest.fixture(scope="module")
def unbroken(runner):
    """The losses of a run that never stopped."""
    workdir = runner.folder / "unbroken"
    runner.finish(workdir)
    found = losses(workdir)
    assert list(found) == list(range(1, STEPS + 1))
    return found


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_killed_between_saves(runner, unbroken):
    workdir = runner.folder / "killed"
    where = random.Random(0).randrange(EVERY + 5, 3 * EVERY)
    process = runner.start(workdir)
    wait_for(process, lambda: lines(workdir) >= where)
    kill(process)
    done = lines(workdir)
    assert where <= done < STEPS
    output = runner.finish(workdir)
    assert "going on from step" in output
    assert losses(workdir) == unbroken


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_terminated(runner, unbroken):
    workdir = runner.folder / "terminated"
    process = runner.start(workdir)
    wait_for(process, lambda: lines(workdir) >= EVERY + 7)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 1, output[-3000:]
    last = max(losses(workdir))
    assert f"stopped by SIGTERM after step {last}, and it is saved" in output
    assert saved(workdir)[-1] == last < STEPS
    output = runner.finish(workdir)
    assert f"going on from step {last}" in output
    assert losses(workdir) == unbroken


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_killed_during_a_save(runner, unbroken):
    workdir = runner.folder / "saving"

    def half_written():
        """A temporary folder of Orbax, later than the first whole checkpoint."""
        folder = workdir / "checkpoints"
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
        return any("tmp" in n for n in names) and any(n.isdigit() for n in names)

    for _ in range(5):  # the save may be complete between the look and the kill
        process = runner.start(workdir)
        wait_for(process, half_written)
        kill(process)
        if half_written():
            break
    assert half_written()
    before = saved(workdir)
    output = runner.finish(workdir)
    assert f"going on from step {before[-1]}" in output
    assert losses(workdir) == unbroken
    assert not [p for p in (workdir / "checkpoints").iterdir() if "tmp" in p.name]
