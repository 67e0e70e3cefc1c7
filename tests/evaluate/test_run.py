import dataclasses

import numpy as np
import pytest
from toy_results import toy_task

from biofm_jax.adapt.fractions import few_shot_adapter, fraction_adapter, unlabelled_adapter
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate import baselines
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.results import is_baseline, read_results
from biofm_jax.evaluate.run import Contender, evaluate


@pytest.fixture(autouse=True)
def flat(monkeypatch):
    """A baseline that predicts the training mean."""
    calls = []

    def adapter(train, valid, test, seed):
        calls.append(seed)
        return np.full((len(test), 1), train.targets.mean())

    monkeypatch.setitem(baselines.BASELINES, "flat", adapter)
    return calls


def letters(texts):
    return np.array([[t.count("A"), t.count("C")] for t in texts], float)


def noise(seed):
    return lambda texts: np.random.default_rng(seed).normal(size=(len(texts), 3))


def models(folders):
    """The results that are not baselines', and the problems."""
    results, problems = read_results(folders)
    return [r for r in results if not is_baseline(r.method)], problems


def contender():
    return Contender(
        "toy",
        "probe",
        probe_adapter(lambda seed: letters, "number"),
        probe_adapter(noise, "number"),
    )


def test_model_control_and_baseline_are_scored_and_written(tmp_path, flat):
    said = []
    row = evaluate(toy_task(), contender(), seeds=(0, 1), out=tmp_path, progress=said.append)
    assert row.value.score.value < 0.1 < 1 < row.control.score.value
    assert row.value.deviation == 0.0  # the same frozen features for every seed
    assert row.control.deviation > 0.0
    assert row.baselines["flat"].value == pytest.approx(2.0, abs=0.2)  # deviation of 0..6
    assert len(flat) == 1
    results, problems = models([tmp_path])
    assert not problems and [r.seed for r in results] == [0, 1]
    first = results[0]
    assert (first.n_train, first.n_valid, first.n_test) == (20, 20, 20)
    assert first.predictions.ids[0] == "item-2"
    assert first.predictions.control is not None and first.command and first.versions
    assert sum("control" in line for line in said) == 2
    evaluate(toy_task(), contender(), seeds=(0,), out=tmp_path)
    assert len(flat) == 1  # found again


def test_adapters_never_see_test_labels(tmp_path):
    seen = []

    def spy(train, valid, test, seed):
        seen.append(test.targets)
        return np.zeros((len(test), 1))

    evaluate(toy_task(), Contender("m", "spy", spy, spy), seeds=(0,), out=tmp_path)
    assert len(seen) == 2 and all(np.isnan(targets).all() for targets in seen)


def test_the_score_is_that_of_a_run_with_the_whole_validation_part(tmp_path):
    """Calibration adapts once more with half of it, and changes nothing of the rest."""
    given = []

    def spy(train, valid, test, seed):
        given.append((train, valid, test))
        return np.arange(len(test), dtype=float)[:, None] + len(valid)

    task = toy_task(300)
    row = evaluate(task, Contender("m", "spy", spy, None), seeds=(4,), out=tmp_path)
    dataset = task.data(None)
    (train, valid, test), (train_again, half, more) = given
    assert (train.ids, valid.ids) == (dataset.items.ids[::3], dataset.items.ids[1::3])
    assert test.ids == dataset.tested.ids and train_again.ids == train.ids
    (found,) = row.results
    np.testing.assert_array_equal(found.predictions.predicted[:, 0], np.arange(100) + 100)
    held = more.ids[100:]
    assert more.ids[:100] == test.ids and np.isnan(more.targets).all()
    assert sorted((*half.ids, *held)) == sorted(valid.ids) and len(held) == len(half) == 50
    assert found.recalibration.n_calibration == found.recalibration.n_valid == 50


def test_n_train_counts_the_labels_that_the_method_saw(tmp_path):
    task, model = toy_task(300), contender().adapter
    for method, adapter, want in (
        ("probe", model, (100, 100)),
        ("probe@10%", fraction_adapter(model, 0.1), (10, 10)),
        ("probe@8shot", few_shot_adapter(model, 8), (8, 0)),
        (
            "none",
            unlabelled_adapter(lambda train, valid, test, seed: np.ones_like(test.targets)),
            (0, 0),
        ),
    ):
        row = evaluate(task, Contender("m", method, adapter, None), seeds=(0,), out=tmp_path)
        (found,) = row.results
        assert (found.n_train, found.n_valid) == want
        assert (found.recalibration is None) == (method != "probe")  # too few to calibrate on


def test_groups_are_judged_and_looked_at_for_leaks(tmp_path, flat):
    task = toy_task(300)
    dataset = task.data(None)
    count = dataset.items.targets[:, 0]
    dataset = dataclasses.replace(
        dataset,
        groups={"many": ["yes" if c > 3 else "no" for c in count], "family": list(count)},
        apart=("family",),
        metadata={"same as the label": list(count), "a half": [i % 2 for i in range(300)]},
    )
    row = evaluate(task, contender(), seeds=(0,), out=tmp_path, dataset=dataset)
    many, family = row.results[0].subgroups
    assert many.column == "many" and {group.name for group in many.groups} == {"yes", "no"}
    assert sum(group.n for group in many.groups) == 100
    assert family.groups == () and len(family.left_out) == 7  # each has 14 or 15 test items
    leaks = row.results[0].leaks
    (shared,) = leaks.groups
    assert (shared.column, shared.tested, shared.shared) == ("family", 7, 7)
    assert leaks.checked == ("same as the label", "a half")
    assert [found.column for found in leaks.revealing] == ["same as the label"]
    # The baseline stands beside with the same columns, and is not computed for others again.
    read = {r.method: r for r in read_results([tmp_path])[0]}
    assert [s.column for s in read["baseline"].subgroups] == ["many", "family"]
    plain = dataclasses.replace(dataset, groups={}, apart=(), metadata={})
    calls = len(flat)
    evaluate(task, contender(), seeds=(0,), out=tmp_path, dataset=plain)
    read = {r.method: r for r in read_results([tmp_path])[0]}
    assert len(flat) == calls and read["baseline"].subgroups == read["probe"].subgroups == ()
    assert read["baseline"].leaks == read["probe"].leaks and read["probe"].leaks.groups == ()


def test_leaks_are_looked_for_once(tmp_path, monkeypatch):
    calls = []

    def report(dataset, *arguments, **more):
        calls.append(dataset)
        return leak_report(dataset, *arguments, **more)

    monkeypatch.setattr("biofm_jax.evaluate.record.leak_report", report)
    monkeypatch.setattr("biofm_jax.evaluate.record._LEAKS", {})
    task = toy_task()
    for method in ("probe", "again"):
        given = dataclasses.replace(contender(), method=method)
        evaluate(task, given, seeds=(0, 1), out=tmp_path, dataset=task.data(None))
    assert len(calls) == 1
    changed = dataclasses.replace(task.data(None), metadata={"x": list(range(60))})
    evaluate(task, contender(), seeds=(0,), out=tmp_path, dataset=changed)
    evaluate(toy_task(90), contender(), seeds=(0,), out=tmp_path)
    assert [len(data.items) for data in calls] == [60, 60, 90]


def test_without_control(tmp_path):
    given = dataclasses.replace(contender(), control=None)
    assert evaluate(toy_task(), given, seeds=(3,), out=tmp_path).control is None


def test_bad_use(tmp_path):
    with pytest.raises(UserError, match="at least one seed"):
        evaluate(toy_task(), contender(), seeds=(), out=tmp_path)
    wrong = Contender("m", "x", lambda *_: np.full((20, 1), np.nan), None)
    with pytest.raises(UserError, match="test item 0 is not finite"):
        evaluate(toy_task(), wrong, seeds=(0,), out=tmp_path)
    assert models([tmp_path]) == ([], [])


def test_a_result_carries_its_leak_report_and_calibration(tmp_path):
    task = toy_task()
    evaluate(task, contender(), seeds=[0], out=tmp_path)
    (found,), problems = models([tmp_path])
    assert not problems and found.calibration is None
    assert found.leaks.tested == found.n_test and found.leaks.exact.count > 0  # texts repeat
    dataset = task.data(None)
    above = (dataset.items.targets > 2).astype(float)
    binary = dataclasses.replace(dataset.items, targets=above)
    dataset = dataclasses.replace(dataset, items=binary)
    model = Contender("toy", "probe", probe_adapter(lambda seed: letters, "binary"), None)
    task = dataclasses.replace(task, metric="auroc")
    evaluate(task, model, seeds=[0], out=tmp_path / "binary", dataset=dataset)
    (found,), problems = models([tmp_path / "binary"])
    assert not problems and 0 <= found.calibration.ece.value <= 1
    assert sum(each.n for each in found.calibration.bins) == found.n_test
