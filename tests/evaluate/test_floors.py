import dataclasses
import json

import numpy as np
import pytest
from toy_results import toy_task

from biofm_jax.errors import UserError
from biofm_jax.evaluate import baselines
from biofm_jax.evaluate.floors import baseline_results
from biofm_jax.evaluate.metrics import score
from biofm_jax.evaluate.results import read_results


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """A baseline that predicts the mean of the training labels; how many it was given."""
    given = []

    def flat(train, valid, test, seed):
        given.append((len(train), seed))
        return np.full((len(test), 1), train.targets.mean())

    monkeypatch.setitem(baselines.BASELINES, "flat", flat)
    return given


def test_a_baseline_is_a_result_like_any_other(tmp_path, calls):
    task = toy_task()
    dataset = task.data(None)
    (made,) = baseline_results(task, dataset, tmp_path, seeds=range(3), command="biofm x")
    (read,), problems = read_results([tmp_path])
    assert not problems and not list(tmp_path.glob("*.baseline.json"))
    assert (read.model, read.method, read.seed, read.control) == ("flat", "baseline", 0, None)
    assert read.score == made.score and read.baselines == {} and read.command == "biofm x"
    assert read.predictions.ids == dataset.tested.ids and read.leaks is not None
    truth = dataset.tested.targets
    assert read.score == score("rmse", truth, np.full_like(truth, dataset.part(
        dataset.folds[0].train).targets.mean()))  # fmt: skip
    assert {seed for _, seed in calls} == {0}


def test_it_is_computed_once_and_again_where_it_would_differ(tmp_path, calls):
    task = toy_task()
    (first,) = baseline_results(task, task.data(None), tmp_path)
    n = len(calls)
    (again,) = baseline_results(task, task.data(None), tmp_path)
    assert len(calls) == n and again.started == first.started
    (path,) = tmp_path.glob("*.result.json")
    path.write_text('{"score": {"val')  # cut short
    (whole,) = baseline_results(task, task.data(None), tmp_path)
    assert len(calls) == 2 * n and whole.score == first.score
    record = json.loads(path.read_text())
    record["versions"]["scikit-learn"] = "0.1"
    path.write_text(json.dumps(record))
    baseline_results(task, task.data(None), tmp_path)
    assert len(calls) == 3 * n
    larger = toy_task(90)  # other data of the same task
    (other,) = baseline_results(larger, larger.data(None), tmp_path)
    assert len(calls) > 3 * n and other.n_test == 30
    by_mae = dataclasses.replace(larger, metric="mae")
    (other,) = baseline_results(by_mae, larger.data(None), tmp_path)
    assert other.metric == "mae"


def test_fewer_labels_are_drawn_by_every_seed(tmp_path, calls):
    task = toy_task(300)
    few = baseline_results(task, task.data(None), tmp_path, method="baseline@10%", seeds=range(3))
    assert [r.seed for r in few] == [0, 1, 2] and {r.n_train for r in few} == {10}
    assert len({r.score.value for r in few}) == 3
    (shots,) = baseline_results(
        task, task.data(None), tmp_path, method="baseline@8shot", seeds=range(1)
    )
    assert (shots.n_train, shots.n_valid) == (8, 0)
    assert {n for n, _ in calls} == {10, 8}


def test_an_error_of_a_baseline_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(
        baselines.BASELINES, "flat", lambda train, valid, test, seed: np.zeros(len(test))
    )
    task = toy_task()
    with pytest.raises(UserError, match="the predictions have shape"):
        baseline_results(task, task.data(None), tmp_path)
    assert not list(tmp_path.iterdir())
