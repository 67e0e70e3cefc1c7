import dataclasses

import numpy as np
import pytest
from toy_results import toy_task

from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate import baselines
from biofm_jax.evaluate.results import read_results
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
    results, problems = read_results([tmp_path])
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


def test_without_control(tmp_path):
    given = dataclasses.replace(contender(), control=None)
    assert evaluate(toy_task(), given, seeds=(3,), out=tmp_path).control is None


def test_bad_use(tmp_path):
    with pytest.raises(UserError, match="at least one seed"):
        evaluate(toy_task(), contender(), seeds=(), out=tmp_path)
    wrong = Contender("m", "x", lambda *_: np.full((20, 1), np.nan), None)
    with pytest.raises(UserError, match="test item 0 is not finite"):
        evaluate(toy_task(), wrong, seeds=(0,), out=tmp_path)
    assert not list(tmp_path.glob("*.result.json"))


def test_a_result_carries_its_leak_report_and_calibration(tmp_path):
    task = toy_task()
    evaluate(task, contender(), seeds=[0], out=tmp_path)
    (found,), problems = read_results([tmp_path])
    assert not problems and found.calibration is None
    assert found.leaks.tested == found.n_test and found.leaks.exact.count > 0  # texts repeat
    dataset = task.data(None)
    above = (dataset.items.targets > 2).astype(float)
    binary = dataclasses.replace(dataset.items, targets=above)
    dataset = dataclasses.replace(dataset, items=binary)
    model = Contender("toy", "probe", probe_adapter(lambda seed: letters, "binary"), None)
    task = dataclasses.replace(task, metric="auroc")
    evaluate(task, model, seeds=[0], out=tmp_path / "binary", dataset=dataset)
    (found,), problems = read_results([tmp_path / "binary"])
    assert not problems and 0 <= found.calibration.ece.value <= 1
    assert sum(each.n for each in found.calibration.bins) == found.n_test
