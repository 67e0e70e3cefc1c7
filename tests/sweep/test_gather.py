"""Gathering of results written by hand."""

import dataclasses
import json
from pathlib import Path

import pytest
from toy_results import result

from biofm_jax.adapt.methods import Tuning
from biofm_jax.evaluate.curves import curve_lines
from biofm_jax.evaluate.metrics import score
from biofm_jax.evaluate.results import result_path, write_result
from biofm_jax.experiment import load_experiment
from biofm_jax.sweep.cells import Cell, Work
from biofm_jax.sweep.gather import gather, write


@pytest.fixture
def sweep(tiny, tmp_path):
    """Two labels with two seeds, evaluated on two tasks; a foreign result and a broken one."""
    experiment = load_experiment(tiny)
    cells = [
        Cell(label, seed, experiment, tmp_path / "cells" / f"{label}_{seed}")
        for seed in (0, 1)
        for label in ("b", "a")
    ]
    pairs = (("two", "probe"), ("one", "probe"))
    work = Work(pairs, Tuning(), tmp_path / "results", "biofm sweep x")
    for cell in cells:
        (cell.folder / "checkpoints" / "4").mkdir(parents=True)
        row = {"step": 4, "validation_loss": 1.0 + cell.seed}
        (cell.folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        done = [work.key(*pair) for pair in pairs]
        (cell.folder / "evaluated.json").write_text(json.dumps(done))
        for task, _ in pairs:
            write_result(result(task=task, model=cell.label, seed=cell.seed), work.results)
    write_result(result(task="one", model="other"), work.results)
    write_result(result(task="one", model="a", seed=7), work.results)
    write_result(result(task="three", model="a"), work.results)
    return cells, work


def test_rows_come_in_the_order_of_the_sweep(sweep):
    outcome = gather(*sweep, same_targets=True)
    assert [(row.task, row.model, row.seeds) for row in outcome.rows] == [
        ("two", "b", (0, 1)), ("two", "a", (0, 1)), ("one", "b", (0, 1)), ("one", "a", (0, 1))
    ]  # fmt: skip
    assert not outcome.unfinished and not outcome.problems and not outcome.failed
    assert [row.mean for row in outcome.losses] == [1.5, 1.5]
    titles = [title for title, _ in outcome.tables()]
    assert [title.split(":")[0] for title in titles[:2]] == ["two", "one"]
    assert [title.split(" in ")[0] for title in titles[2:4]] == [
        "two: paired differences",
        "one: paired differences",
    ]
    assert titles[4].startswith("two: differences from the control in RMSE")
    assert titles[6] == "held-out loss (of the objective, mean over seeds)"


def test_variants_are_compared_in_pairs_and_corrected(sweep):
    """A planted winner on one task is found, equal variants on the other are not."""
    cells, work = sweep
    for cell in (c for c in cells if c.label == "a"):
        good = result(task="one", model="a", seed=cell.seed)
        near = good.predictions.truth + 0.02 * (good.predictions.predicted - good.predictions.truth)
        predictions = dataclasses.replace(good.predictions, predicted=near)
        value = score("rmse", predictions.truth, near)
        write_result(dataclasses.replace(good, predictions=predictions, score=value), work.results)
    outcome = gather(cells, work, same_targets=True)
    (title, (two,)), (_, (one,)), (_, own), (_, (worse, better)), _ = outcome.more_tables()
    assert "Holm over all 2" in title
    assert (two["one"], two["other"], two["Holm"]) == ("b", "a", "1.000")
    assert one["one - other [95 %]"].startswith("+") and float(one["Holm"].lstrip("<")) <= 0.01
    assert (better["one"], better["other"]) == ("a", "random-initialised control")
    near, far = (float(row["one - other [95 %]"].split()[0]) for row in (better, worse))
    assert near < far < 0  # RMSE, and the toy's control is bad
    assert [line["one"] for line in own] == ["b", "a"]
    first, second = outcome.to_json()["comparisons"]
    assert first["p"] == first["holm"] == 1.0 and first["seeds"] == (2, 2)
    assert second["holm"] == min(1.0, 2 * second["p"]) and second["difference"] > 0
    assert "**one: paired differences in RMSE" in outcome.to_markdown()


def test_only_seeds_of_both_are_paired(sweep):
    cells, work = sweep
    path = result_path(work.results, "one", "a", "probe", 0)
    path.unlink()
    outcome = gather(cells, work, same_targets=True)
    assert [row.comparison.seeds for row in outcome.comparisons] == [(2, 2), (1, 1)]
    result_path(work.results, "one", "b", "probe", 1).unlink()  # now they share none
    outcome = gather(cells, work, same_targets=True)
    assert [row.comparison.task for row in outcome.comparisons] == ["two"]


def test_what_is_written(sweep, tmp_path):
    cells, work = sweep
    (tmp_path / "results" / "cut.result.json").write_text("{")
    cells.append(dataclasses.replace(cells[0], label="c", folder=tmp_path / "cells" / "c_0"))
    outcome = gather(cells, work, same_targets=False)
    write(outcome, tmp_path / "out")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| two | probe | b | 2 | RMSE" in text and "does not rank them" in text
    assert "| c seed 0 | waiting |  |" in text and "Not read: " in text and "cut.result" in text
    assert (tmp_path / "out" / "comparison.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads(json.dumps(outcome.to_json()))
    assert found["results"][0]["model"] == "b" and found["losses"][0]["mean"] == 1.5
    assert [row["task"] for row in found["comparisons"]] == ["two", "one"]


def test_a_loss_counts_only_of_a_run_that_ended(sweep):
    cells, work = sweep
    (cells[0].folder / "checkpoints" / "4").rmdir()
    outcome = gather(cells, work, same_targets=True)
    by_label = {row.label: row for row in outcome.losses}
    assert by_label["b"].seeds == (1,) and by_label["b"].deviation is None
    assert by_label["a"].seeds == (0, 1)
    assert [line["cell"] for line in outcome.unfinished] == ["b seed 0"]


def test_nothing_yet(tiny, tmp_path):
    cell = Cell("a", 0, load_experiment(tiny), tmp_path / "cells" / "a_0")
    work = Work((("one", "probe"),), Tuning(), Path(tmp_path / "results"), "")
    outcome = gather([cell], work, same_targets=True)
    assert not outcome.rows and not outcome.losses and outcome.figure() is None
    assert outcome.comparisons == [] and outcome.to_json()["comparisons"] == []
    write(outcome, tmp_path / "out")
    assert "| a seed 0 | waiting |" in (tmp_path / "out" / "table.md").read_text()


def test_shares_of_the_labels_give_a_curve_of_every_task(tiny, tmp_path):
    cell = Cell("a", 0, load_experiment(tiny), tmp_path / "cells" / "a_0")
    pairs = (("one", "probe@10%"), ("one", "probe"))
    work = Work(pairs, Tuning(), tmp_path / "results", "biofm sweep x")
    floor = {"model": "forest", "control": None, "baselines": {}}
    for limit in ("@10%", ""):
        write_result(result(task="one", model="a", method=f"probe{limit}"), work.results)
        write_result(result(task="one", method=f"baseline{limit}", **floor), work.results)
    write_result(result(task="one", method="baseline@50%", **floor), work.results)
    outcome = gather([cell], work, same_targets=True)
    assert [row.method for row in outcome.rows] == ["probe@10%", "probe"]
    assert sorted(row.method for row in outcome.floors) == ["baseline", "baseline@10%"]
    lines = curve_lines([*outcome.rows, *outcome.floors])
    assert [(line.kind, line.x) for line in lines if line.kind != "control"] == [
        ("model", (0.1, 1.0)), ("baseline", (0.1, 1.0))
    ]  # fmt: skip
    write(outcome, tmp_path)
    assert (tmp_path / "labels_one.png").read_bytes()[:4] == b"\x89PNG"
    assert "10%" in (tmp_path / "table.md").read_text()
