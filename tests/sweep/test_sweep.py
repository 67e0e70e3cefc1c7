"""Sweeps with real runs in real processes."""

import json
import signal
import subprocess
import sys
import time

import pytest

from biofm_jax.adapt.methods import Tuning
from biofm_jax.evaluate.results import is_baseline, read_results
from biofm_jax.experiment import load_experiment, train
from biofm_jax.sweep import evaluation
from biofm_jax.sweep.cells import Cell, Work
from biofm_jax.sweep.checks import check
from biofm_jax.sweep.gather import gather
from biofm_jax.sweep.overrides import override
from biofm_jax.sweep.processes import evaluate_command


def biofm(*arguments):
    command = [sys.executable, "-m", "biofm_jax.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_shards_at_once_with_a_cell_that_diverges(tiny, tmp_path):
    arguments = ["sweep", tiny, "--over", "optimizer.learning_rate=1e-3,1e30", "--seeds", "2"]
    arguments += ["--match", "flops", "--out", tmp_path, "--json", "True"]
    shards = [biofm(*arguments, "--shard", f"{i}/2") for i in range(2)]
    said = [shard.communicate(timeout=500) for shard in shards]
    # The last to end has seen all cells; shard 1 has the two that diverge.
    assert shards[1].returncode == 1, said[1]
    table = (tmp_path / "table.md").read_text()
    assert "learning_rate=1e30 seed 1 | failed | biofm train: step 2: loss nan" in table
    assert "| learning_rate=1e-3 | 2 | 4 | 2048 |" in table
    runs = {
        name: json.loads((tmp_path / "cells" / name / "run.json").read_text())["command"]
        for name in ("learning_rate=1e-3_0", "learning_rate=1e-3_1")
    }
    for name, command in runs.items():
        folder = tmp_path / "cells" / name
        assert command == f"biofm train {folder}/experiment.json --workdir {folder}"
    again = biofm(*arguments, "--shard", "0/2")
    out, err = again.communicate(timeout=500)
    assert again.returncode == 1 and err.count("finished before") == 2
    found = json.loads(out)
    assert [row["label"] for row in found["losses"]] == ["learning_rate=1e-3"]
    assert found["losses"][0]["sd"] > 0 and len(found["unfinished"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_half_finished_cell_goes_on_from_its_checkpoint(tiny, tmp_path, number):
    arguments = ["sweep", tiny, "--seeds", "1", "--out", tmp_path]
    arguments += ["--over", "loop.steps=150", "--over", "loop.checkpoint_every=20"]
    folder = tmp_path / "cells" / "tiny_0"
    first = biofm(*arguments)
    last = time.monotonic() + 300
    while not (folder / "checkpoints" / "20").is_dir():
        assert time.monotonic() < last and first.poll() is None
        time.sleep(0.01)
    first.send_signal(number)
    first.communicate(timeout=300)
    assert first.returncode == (1 if number == signal.SIGTERM else -signal.SIGKILL)
    # After SIGKILL the training process goes on, and the second sweep leaves the cell to it.
    second = biofm(*arguments)
    _, err = second.communicate(timeout=500)
    assert second.returncode == 0
    log = (folder / "log.txt").read_text()
    if number == signal.SIGTERM:
        assert "stopped by SIGINT" in log and "going on from step" in log
    else:
        assert "running in another process" in err or "finished before" in err
        while not (folder / "checkpoints" / "150").is_dir():
            assert time.monotonic() < last
            time.sleep(0.1)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 151))


@pytest.mark.slow
def test_a_cell_is_evaluated_under_its_own_label_and_seed(tmp_path, monkeypatch, capsys):
    smoke = load_experiment("experiments/drug_discovery/smiles_masked.py:smoke")
    experiment = override(override(smoke, "loop.seed", "3"), "mesh.data", "8")
    cell = Cell("rate=0.15 seed", 3, experiment, tmp_path / "cells" / "cell_3")
    train(experiment, cell.folder, show=False)
    pairs = (("quickstart/tpsa", "probe"),)
    work = Work(pairs, Tuning(), tmp_path / "results", "biofm sweep x --over y=1,2")
    job = json.loads(evaluate_command(cell, work)[-1])
    monkeypatch.setattr(sys, "argv", ["evaluation", json.dumps(job)])
    assert not cell.finished(work)
    evaluation.run(job)
    assert cell.finished(work) and "seed 3" in capsys.readouterr().out
    results, problems = read_results([tmp_path / "results"])
    (result,) = (each for each in results if not is_baseline(each.method))
    assert {each.model for each in results} == {cell.label, "ecfp4_ridge", "letter_counts"}
    assert not problems and (result.model, result.seed) == (cell.label, 3)
    assert result.command == work.command and result.control is not None
    outcome = gather([cell], work, same_targets=True)
    (row,) = outcome.rows
    assert (row.task, row.model, row.seeds) == ("quickstart/tpsa", cell.label, (3,))
    assert "| quickstart/tpsa | probe | rate=0.15 seed | 1 |" in outcome.to_markdown()
    assert outcome.figure()[:4] == b"\x89PNG"


def test_checks_happen_as_in_a_cell(tiny, biofm_data):
    tiny = load_experiment(tiny)
    rows = check({"a": tiny, "b": override(tiny, "model.width", "32")}, ["dms_blat"])
    assert rows["b"]["parameters"] > rows["a"]["parameters"] and rows["a"]["steps"] == 4


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("objective.rate", "2", "b: objective.rate is 2.0"),
        ("mesh.fsdp", "3", "b: .*cannot be laid over 1 devices"),
    ],
)
def test_an_impossible_cell_is_named(tiny, path, value, words):
    tiny = load_experiment(tiny)
    with pytest.raises(ValueError, match=words):
        check({"a": tiny, "b": override(tiny, path, value)}, [])


def test_a_task_without_its_data_is_named(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("BIOFM_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="dms_blat"):
        check({"a": load_experiment(tiny)}, ["dms_blat"])
