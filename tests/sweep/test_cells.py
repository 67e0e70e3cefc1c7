import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.methods import Tuning
from biofm_jax.errors import UserError
from biofm_jax.experiment import load_experiment
from biofm_jax.sweep.cells import Cell, Work, claimed, folder_name
from biofm_jax.sweep.overrides import override

WORK = Work((), Tuning(), Path("results"), "biofm sweep x")


@pytest.fixture
def cell(tiny, tmp_path):
    return Cell("rate=0.15", 0, load_experiment(tiny), tmp_path / "cell")


def wait_for(condition):
    last = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.02)


HOLD = """
import subprocess, sys, time
from pathlib import Path
from biofm_jax.sweep.cells import claimed
with claimed(Path(sys.argv[1])) as claim:
    sleep = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    child = subprocess.Popen(sleep, pass_fds=(claim,))
    print(child.pid, flush=True)
    child.wait()
"""


def test_a_claim_is_for_one_process_and_ends_with_its_last_holder(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    child = int(holder.stdout.readline())
    try:
        holder.stdout.readline()  # the child is up

        def free():
            with claimed(tmp_path, patience=0.0) as claim:
                return claim is not None

        assert not free()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not free()  # the child trains on, and the cell is still its
    finally:
        os.kill(child, signal.SIGKILL)
    wait_for(free)


def test_a_claim_waits_for_whoever_only_looks(tmp_path):
    with claimed(tmp_path), claimed(tmp_path, patience=0.0) as second:
        assert second is None
    with claimed(tmp_path) as first:
        assert first is not None


def test_the_states_of_a_cell(cell):
    assert cell.state(WORK) == "waiting"
    assert not cell.folder.exists()  # looking leaves nothing behind
    cell.folder.mkdir()
    (cell.folder / "metrics.jsonl").write_text('{"step": 2, "loss": 1.0}\n')
    assert cell.state(WORK) == "half-finished"
    (cell.folder / "failure.json").write_text(json.dumps({"error": "it broke"}))
    assert cell.state(WORK) == "failed" and cell.failure() == "it broke"
    with claimed(cell.folder):
        assert cell.state(WORK) == "running"
    (cell.folder / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    assert not cell.trained()
    (cell.folder / "checkpoints" / "4").mkdir()
    assert cell.state(WORK) == "finished"


def test_what_is_evaluated_is_remembered_with_its_options(cell):
    (cell.folder / "checkpoints" / "4").mkdir(parents=True)
    work = dataclasses.replace(WORK, pairs=(("esol", "probe"), ("bbbp", "finetune")))
    assert cell.missing(work) == list(work.pairs) and not cell.finished(work)
    (cell.folder / "evaluated.json").write_text(json.dumps([work.key(*work.pairs[0])]))
    assert cell.missing(work) == [("bbbp", "finetune")]
    longer = dataclasses.replace(work, tuning=Tuning(FinetuneSpec(epochs=3)))
    assert cell.missing(longer) == list(work.pairs)


def test_a_folder_of_another_experiment_is_refused(cell):
    cell.folder.mkdir()
    record = cell.folder / "experiment.json"
    record.write_text(json.dumps(cell.experiment.to_json()))
    cell.check()
    free = override(cell.experiment, "model.remat", "full")
    dataclasses.replace(cell, experiment=free).check()
    for path, value in (("objective.rate", "0.3"), ("loop.steps", "8")):
        other = dataclasses.replace(cell, experiment=override(cell.experiment, path, value))
        with pytest.raises(UserError, match=f"{path}: .* there, {value} here.*--out"):
            other.check()
    record.write_text("{")
    with pytest.raises(UserError, match="is no experiment"):
        cell.check()


def test_a_record_older_than_a_field_holds_its_default(cell):
    record = cell.experiment.to_json()
    del record["data"]["fraction"]
    cell.folder.mkdir()
    (cell.folder / "experiment.json").write_text(json.dumps(record))
    cell.check()


def test_folders_have_plain_names_of_their_own():
    assert folder_name("rate=0.3 layers=4", 2) == "rate=0.3,layers=4_2"
    odd = [
        "path=a/b",
        "path=a-b",
        "path=a b",
        "path=a,b",
        "path=a:b",
        "freeze=",
        "x" * 200,
        "x" * 201,
    ]
    names = {folder_name(label, 0) for label in odd}
    assert len(names) == len(odd)
    assert all(len(name) < 100 and not set(name) & set("/:@ ") for name in names)
