"""Folders with broken files in them: named at the top of the page, and the rest is shown."""

import dataclasses
import html
import json

import numpy as np
import pytest
from toy_results import result

from biofm_jax.errors import UserError
from biofm_jax.evaluate import report_page
from biofm_jax.evaluate.report import write_report
from biofm_jax.evaluate.report_page import Section
from biofm_jax.evaluate.results import write_result


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def change(**fields):
    def write(path):
        record = json.loads(path.read_text()) | fields
        path.write_text(json.dumps(record))

    return write


def drop(field):
    def write(path):
        record = json.loads(path.read_text())
        del record[field]
        path.write_text(json.dumps(record))

    return write


def arrays(**changes):
    def write(path):
        with np.load(path) as old:
            np.savez(path, **dict(old) | changes)

    return write


def as_folder(path):
    path.unlink()
    path.mkdir()


JSON, NPZ, METRICS = "results/toy*.result.json", "results/toy*.npz", "metrics.jsonl"
DAMAGE = {
    "cut JSON": (JSON, cut),
    "empty JSON": (JSON, lambda path: path.write_text("")),
    "no JSON": (JSON, lambda path: path.write_bytes(b"\xff\xfe\x00")),
    "a list": (JSON, lambda path: path.write_text("[1, 2]")),
    "endless brackets": (JSON, lambda path: path.write_text("[" * 100_000)),
    "a folder": (JSON, as_folder),
    "no link target": (JSON, lambda path: (path.unlink(), path.symlink_to("gone"))),
    "no metric": (JSON, drop("metric")),
    "an unknown metric": (JSON, change(metric="smell")),
    "an unknown field": (JSON, change(smell=1)),
    "text for a number": (JSON, change(seconds="soon")),
    "a score that is none": (JSON, change(score={"value": None, "low": 0, "high": 1})),
    "baselines that are none": (JSON, change(baselines=["flat"])),
    "half a character": (JSON, change(model="\ud800")),
    "a number that is none": (JSON, change(published=[{"name": "x"}])),
    "no predictions": (NPZ, lambda path: path.unlink()),
    "cut predictions": (NPZ, cut),
    "predictions of others": (NPZ, arrays(ids=np.array(["a"]))),
    "predictions of two labels": (NPZ, arrays(predicted=np.zeros((30, 2)))),
    "predictions that are not finite": (NPZ, arrays(predicted=np.full((30, 1), np.nan))),
    "pickled predictions": (NPZ, arrays(ids=np.array([{}], dtype=object))),
    "a cut line": (METRICS, cut),
    "a line that is no object": (METRICS, lambda path: path.write_text("[]\n3\nnull\n")),
    "text for a loss": (METRICS, lambda path: path.write_text('{"step": 1, "loss": "low"}\n')),
    "a step without end": (METRICS, lambda path: path.write_text('{"step": 1e999}\n')),
    "metrics in a folder": (METRICS, as_folder),
    "a cut experiment": ("experiment.json", cut),
    "an experiment that is a list": ("experiment.json", lambda path: path.write_text("[]")),
    "a cut provenance": ("run.json", cut),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_rest_is_shown(kind, tmp_path):
    write_result(result(seed=1, model="whole"), tmp_path / "results")
    write_result(result(), tmp_path / "results")
    write_metrics(tmp_path)
    pattern, damage = DAMAGE[kind]
    pattern = pattern.replace("toy*", "toy*seed0*")
    (path,) = tmp_path.glob(pattern)
    damage(path)
    report = write_report([tmp_path], tmp_path / "out" / "report.html")
    named = path.with_name(path.name.replace(".predictions.npz", ".result.json"))
    assert report.problems and all(str(named) in problem for problem in report.problems)
    assert [row.model for row in report.rows if row.model == "whole"]
    assert len(report.rows) == (1 if "results" in pattern else 2)
    text = html.unescape(report.html.read_text())
    assert text.index("could not be read") < text.index("whole")
    assert all(problem in text for problem in report.problems)


def write_metrics(folder):
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    (folder / "experiment.json").write_text(json.dumps({"loop": {"seed": 17}}))
    (folder / "run.json").write_text(json.dumps({"command": "biofm train x.py"}))


def test_only_broken_files(tmp_path):
    (tmp_path / "a.result.json").write_text("{")
    report = write_report([tmp_path], tmp_path / "report.html")
    assert report.rows == [] and "a.result.json" in report.html.read_text()


def test_a_metric_without_a_value_costs_its_row_only(tmp_path):
    """Labels of one class: whole files, but nothing that the metric can say."""
    given = result(task="two classes", metric="auroc")
    one_class = dataclasses.replace(given.predictions, truth=np.full((30, 1), 2.0))
    write_result(dataclasses.replace(given, predictions=one_class), tmp_path)
    write_result(result(), tmp_path)
    report = write_report([tmp_path], tmp_path / "report.html")
    assert [row.task for row in report.rows] == ["toy"]
    assert len(report.problems) == 1 and report.problems[0].startswith("two classes, probe of")


def test_seeds_of_other_items_cost_the_comparisons_only(tmp_path):
    for seed in (0, 1):
        given = result(seed=seed)
        ids = tuple(f"{seed}-{name}" for name in given.predictions.ids)
        predictions = dataclasses.replace(given.predictions, ids=ids)
        write_result(dataclasses.replace(given, predictions=predictions), tmp_path)
    report = write_report([tmp_path], tmp_path / "report.html")
    assert len(report.problems) == 1 and "'Paired comparisons' is left out" in report.problems[0]
    assert len(report.rows) == 1 and "predictions of probe on toy" in report.html.read_text()


def test_a_section_that_fails_is_named(tmp_path, monkeypatch):
    for task in ("one", "two"):
        write_result(result(task=task), tmp_path)

    def fail(found):
        raise UserError("nothing to draw")

    sections = (Section("curves", "Fewer labels", fail), *report_page.SECTIONS)
    monkeypatch.setattr(report_page, "SECTIONS", sections)
    report = write_report([tmp_path], tmp_path / "report.html")
    assert report.problems == ["section 'Fewer labels' is left out: nothing to draw"]
    assert report.problems[0] in html.unescape(report.html.read_text()) and len(report.rows) == 2
