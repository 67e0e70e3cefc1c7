import dataclasses
import json

import numpy as np
import pytest
from scipy.special import expit

from biofm_jax.adapt.fractions import fraction_adapter, unlabelled_adapter
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines import BASELINES
from biofm_jax.evaluate.conformal import conformal_interval, interval_coverage
from biofm_jax.evaluate.metrics import metric_value
from biofm_jax.evaluate.recalibration import halves, recalibrate
from biofm_jax.evaluate.split_groups import PARTS
from biofm_jax.evaluate.splits import Fold, random_folds
from biofm_jax.evaluate.task import Dataset, get_task, predictions
from biofm_jax.specs import decode, encode


def dataset(n=300, seed=0, binary=False, columns=1, folds=None, missing=0.0):
    """Items whose text is the number that their label is drawn around."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)
    truth = signal[:, None] + rng.normal(size=(n, columns))
    if binary:
        truth = (rng.random((n, columns)) < expit(2 * signal)[:, None]).astype(float)
    truth[rng.random(truth.shape) < missing] = np.nan
    items = Labelled(tuple(f"i{j}" for j in range(n)), tuple(map(str, signal)), truth)
    third = Fold.from_labels(np.array(["train", "valid", "test"])[np.arange(n) % 3])
    return Dataset(items, folds or (third,), tuple(f"y{k}" for k in range(columns)))


def known(train, valid, test, seed):
    """The number the label is drawn around, whatever the labels are."""
    column = np.array([float(text) for text in test.texts])
    return np.repeat(column[:, None], test.targets.shape[1], axis=1)


def memory(train, valid, test, seed):
    """Right about every item that it has seen with its label, as `known` about the rest."""
    seen = dict(zip(train.ids + valid.ids, np.concatenate([train.targets, valid.targets])))
    guess = known(train, valid, test, seed)
    return np.array([seen.get(name, row) for name, row in zip(test.ids, guess)])


def overconfident(train, valid, test, seed):
    return expit(6 * known(train, valid, test, seed))  # three times the true logit


@pytest.mark.parametrize("adapter", [known, memory])
def test_coverage_is_as_promised_whatever_the_validation_part_is_used_for(adapter):
    found = [recalibrate(dataset(seed=s), adapter, "rmse", s) for s in range(200)]
    coverage = [r.conformal[0].coverage for r in found]
    assert {c.n_calibration for c in coverage} == {50}
    mean = np.mean([c.coverage.value for c in coverage])
    # 0.95 to 0.95 + 1/51 in expectation; a mean of 200 has a deviation of 0.0027.
    assert 0.942 < mean < 0.978
    assert sum(c.broken for c in coverage) <= 5  # of 200
    assert np.mean([c.size for c in coverage]) == pytest.approx(2 * 1.96, rel=0.1)
    # On all validation items the memory makes no error, and its intervals have no width.
    data = dataset()
    fold = data.folds[0]
    train, valid, test = (data.part(i) for i in (fold.train, fold.valid, fold.test))
    on_valid, on_test = (predictions(adapter, train, valid, p, 0) for p in (valid, test))
    low, high = conformal_interval(valid.targets[:, 0], on_valid[:, 0], on_test[:, 0])
    assert ((high - low).max() == 0.0) == (adapter is memory)


def test_a_planted_temperature_is_found():
    data = dataset(3000, binary=True)
    found = recalibrate(data, overconfident, "auroc", seed=0)
    ((value,),) = found.temperature.values
    assert value == pytest.approx(3, rel=0.2)
    before, after = found.temperature.before, found.temperature.after
    assert before.ece.value > 2 * after.ece.value and before.ece.low > before.ece_by_chance.high
    assert after.ece.value < after.ece_by_chance.high
    assert after.brier.value < before.brier.value
    guess = data.predict_tested(overconfident, 0)
    assert found.score.value == metric_value("auroc", data.tested.targets, guess)
    (column,) = found.conformal
    assert column.label == "y0" and 0.93 < column.coverage.coverage.value < 0.97
    assert 1 < column.coverage.size < 2
    assert (found.n_valid, found.n_calibration, found.notes) == (500, 500, ())


def test_what_cannot_be_done_is_said():
    data = dataset(binary=True)
    raw = recalibrate(data, known, "auroc", seed=0)
    assert raw.temperature is None and raw.conformal == ()
    assert raw.notes == ("the scores are no probabilities: there is nothing to calibrate",)

    def dull(train, valid, test, seed):
        return np.full(test.targets.shape, 0.5)

    flat = recalibrate(data, dull, "brier", seed=0)
    assert flat.temperature is None and "say nothing" in flat.notes[0]
    assert flat.conformal[0].coverage.coverage.value == 1.0  # both classes, always


@pytest.mark.parametrize("metric", ["rmse", "auroc", "accuracy"])
def test_too_few_labels_or_none_at_all_and_nothing_is_adapted(metric):
    calls = []

    def spy(train, valid, test, seed):
        calls.append(seed)
        return known(train, valid, test, seed)

    few = dataset(3 * 37, binary=metric != "rmse")  # halves of 19 and 18
    assert recalibrate(few, spy, metric, seed=0) is None
    enough = dataset(3 * 38, binary=metric != "rmse")
    assert recalibrate(enough, unlabelled_adapter(spy), metric, seed=0) is None
    assert not calls
    # Of class numbers there are no probabilities.
    assert (recalibrate(enough, spy, metric, seed=0) is None) == (metric == "accuracy")


def test_a_method_with_few_labels_calibrates_on_its_own():
    data = dataset(900)
    inner = []

    def spy(train, valid, test, seed):
        inner.append((train, valid, test))
        return known(train, valid, test, seed)

    adapter = fraction_adapter(spy, 0.2)
    data.predict_tested(adapter, seed=3)
    found = recalibrate(data, adapter, "rmse", seed=3)
    (train, valid, _), (train_again, half, more) = inner
    assert train.ids == train_again.ids and len(train) == len(valid) == 60
    assert set(half.ids) | set(more.ids[300:]) == set(valid.ids)
    assert (found.n_valid, found.n_calibration) == (30, 30)


def test_folds_and_label_columns_are_calibrated_one_by_one():
    folds = random_folds(600, 5, seed=0)
    data = dataset(600, columns=3, folds=folds, missing=0.3)
    data.items.targets[: 600 - 40, 2] = np.nan  # the last has too few labels
    started = []
    found = recalibrate(data, memory, "mae", 0, lambda: started.append(1))
    assert started == [1] and (found.n_valid, found.n_calibration) == (60, 60)
    assert [column.label for column in found.conformal] == ["y0", "y1", "y2"]
    for column in found.conformal[:2]:
        assert 0.92 < column.coverage.coverage.value < 0.985
        assert 30 < column.coverage.n_calibration < 50  # of the fold with the fewest
    assert found.conformal[2].coverage is None
    assert found.notes == tuple(n for n in found.notes if n.startswith("y2: 95% coverage needs"))
    binary = dataset(600, binary=True, columns=2, folds=folds, missing=0.3)
    found = recalibrate(binary, overconfident, "auroc", 0)
    assert [len(fold) for fold in found.temperature.values] == [2] * 5
    assert all(value > 1 for fold in found.temperature.values for value in fold)
    assert decode(json.loads(json.dumps(encode(found), allow_nan=False))) == found


def test_halves_are_whole_disjoint_and_drawn_by_the_seed():
    valid = dataset(21).items
    one, other = halves(valid, 0)
    assert (len(one), len(other)) == (11, 10)
    assert sorted(one.ids + other.ids) == sorted(valid.ids)
    for part in (one, other):
        places = [valid.ids.index(name) for name in part.ids]
        assert places == sorted(places)
        np.testing.assert_array_equal(part.targets, valid.targets[places])
    assert halves(valid, 0)[0].ids == one.ids != halves(valid, 1)[0].ids


def test_predictions_that_are_not_finite():
    def half_blind(train, valid, test, seed):
        guess = known(train, valid, test, seed)
        guess[-1] = np.nan
        return guess

    with pytest.raises(UserError, match="held-out validation items is not finite"):
        recalibrate(dataset(), half_blind, "rmse", 0)


@pytest.mark.slow
def test_a_baseline_that_trains_on_the_validation_part_keeps_its_promise(biofm_data):
    """A random fold of real data: 95 % hold here, and do not where it trained on them."""
    data = get_task("dms_blat").data(biofm_data)
    data = dataclasses.replace(data, folds=data.folds[:1])
    ridge = BASELINES["one_hot_ridge"]
    found = recalibrate(data, ridge, "spearman", 0).conformal[0].coverage
    assert 0.93 < found.coverage.value < 0.97 and not found.broken
    train, valid, test = (data.part(getattr(data.folds[0], part)) for part in PARTS)
    both = Labelled(
        valid.ids + test.ids,
        valid.texts + test.texts,
        np.concatenate([valid.targets, test.targets]),
    )
    on_valid, on_test = np.split(predictions(ridge, train, valid, both, 0)[:, 0], [len(valid)])
    low, high = conformal_interval(valid.targets[:, 0], on_valid, on_test)
    wrong = interval_coverage(test.targets[:, 0], low, high, 0.95, len(valid))
    assert wrong.broken and wrong.coverage.value < 0.75
