"""The comparison of two methods: its parts against brute force, its level and its power."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats
from toy_contestants import made, rivals

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import METRICS, metric_value, resampled
from biofm_jax.evaluate.paired import compare, paired_bootstrap
from biofm_jax.evaluate.permutation import permutation_test


def metric_of(contestant, metric, rows=slice(None)):
    """Mean over seeds of the metric on some items."""
    return np.mean(
        [metric_value(metric, contestant.truth[rows], p[rows]) for p in contestant.predicted]
    )


@pytest.mark.parametrize("metric", ["rmse", "spearman", "auroc"])
@pytest.mark.parametrize("seeds", [(1, 1), (3, 2)])
def test_bootstrap_equals_drawing_items_by_hand(metric, seeds):
    one, other = rivals(metric, 40, seeds=seeds)
    low, high, p = paired_bootstrap(one, other, metric, resamples=200, seed=7)
    drawn = np.random.default_rng(7).integers(0, 40, (200, 40))
    want = [metric_of(one, metric, rows) - metric_of(other, metric, rows) for rows in drawn]
    np.testing.assert_allclose([low, high], np.percentile(want, [2.5, 97.5]), rtol=1e-9)
    tail = min(np.sum(np.array(want) <= 0), np.sum(np.array(want) >= 0))
    assert p == min(1, 2 * (1 + tail) / 201)


def test_resamples_are_those_of_the_tables():
    """A comparison with a perfect method has the table's own interval."""
    one, _ = rivals("rmse", 50)
    perfect = made("perfect", one.truth, one.truth)
    low, high, _ = paired_bootstrap(one, perfect, "rmse")
    draws = resampled("rmse", one.truth, one.predicted[0])
    np.testing.assert_allclose([low, high], np.percentile(draws, [2.5, 97.5]))


def brute_force(one, other, metric, rescale=lambda x: x):
    """The exact p value by computing the metric of every swapped set of predictions."""
    n, columns = one.truth.shape
    a, b = (
        np.stack([[rescale(g[:, c]) for c in range(columns)] for g in contestant.predicted])
        for contestant in (one, other)
    )
    a, b = a.transpose(0, 2, 1), b.transpose(0, 2, 1)
    found = []
    for swap in itertools.product((False, True), repeat=n):
        swap = np.array(swap)[None, :, None]
        left, right = np.where(swap, b, a), np.where(swap, a, b)
        found.append(
            np.mean([metric_value(metric, one.truth, g) for g in left])
            - np.mean([metric_value(metric, one.truth, g) for g in right])
        )
    return np.mean(np.abs(found) >= abs(found[0]) - 1e-9)


@pytest.mark.parametrize(
    ("metric", "rescale"),
    [
        ("rmse", lambda x: x),
        ("mae", lambda x: x),
        ("r2", lambda x: x),
        ("accuracy", lambda x: x),
        ("spearman", stats.rankdata),
        ("auroc", stats.rankdata),
        ("pearson", stats.zscore),
    ],
)
@pytest.mark.parametrize("seeds", [1, 2])
def test_permutations_equal_brute_force(metric, rescale, seeds):
    one, other = rivals(metric, 8, noise=(0.3, 1.5), seed=4, seeds=(seeds, seeds))
    p, exact = permutation_test(one, other, metric)
    assert exact and p == brute_force(one, other, metric, rescale)


def test_seeded_draws_come_close_to_all_permutations():
    one, other = rivals("rmse", 11, noise=(0.3, 1.5), seed=4)
    want, exact = permutation_test(one, other, "rmse", draws=2048)
    assert exact
    for seed in range(5):
        p, exact = permutation_test(one, other, "rmse", draws=2047, seed=seed)
        assert not exact and abs(p - want) < 4 * np.sqrt(want * (1 - want) / 2047)
        assert p == permutation_test(one, other, "rmse", draws=2047, seed=seed)[0]
    # The data as they are count as one of the draws: no p value is 0.
    one, other = rivals("rmse", 50, noise=(0.01, 3.0), shared=0)
    assert permutation_test(one, other, "rmse", draws=99)[0] == 1 / 100


def test_permutations_with_several_label_columns_swap_all_of_an_item():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(8, 2))
    one, other = (made(name, truth, truth + rng.normal(size=(1, 8, 2))) for name in "ab")
    assert permutation_test(one, other, "rmse") == (brute_force(one, other, "rmse"), True)


def test_missing_labels_do_not_count():
    one, other = rivals("spearman", 60, noise=(0.5, 1.5))
    truth = np.concatenate([one.truth, np.full((30, 1), np.nan)])
    rng = np.random.default_rng(0)
    longer = [
        made(c.name, truth, np.concatenate([c.predicted[0], 99 * rng.normal(size=(30, 1))]))
        for c in (one, other)
    ]
    found, want = compare(*longer, metric="spearman"), compare(one, other, metric="spearman")
    assert found.difference == want.difference
    assert abs(found.p - want.p) < 0.03


def test_items_of_equal_predictions_are_not_enumerated():
    one, other = rivals("rmse", 300, noise=(0.3, 1.5))
    mixed = one.predicted.copy()
    mixed[0, :6] = other.predicted[0, :6]
    p, exact = permutation_test(one, dataclasses.replace(other, predicted=mixed), "rmse")
    assert exact and p * 64 == round(p * 64)


def test_a_scale_or_an_order_is_not_a_difference():
    """Scores of a model in log odds and those of another in probabilities are comparable."""
    one, other = rivals("auroc", 150, seed=1)
    squashed = dataclasses.replace(other, predicted=1 / (1 + np.exp(-2 * other.predicted - 1)))
    assert compare(one, squashed).p == compare(one, other).p
    moved = dataclasses.replace(other, metric="pearson", predicted=1e3 * other.predicted + 7)
    pearson = dataclasses.replace(one, metric="pearson")
    assert compare(pearson, moved).p == compare(pearson, other, metric="pearson").p


def test_block_size_changes_nothing(monkeypatch):
    one, other = rivals("spearman", 50, noise=(1.0, 1.3))
    whole = compare(one, other)
    monkeypatch.setattr("biofm_jax.evaluate.permutation._CELLS", 700)
    assert compare(one, other) == whole


def test_a_method_does_not_differ_from_itself():
    one, _ = rivals("auroc", 40, seeds=(2, 2))
    found = compare(one, dataclasses.replace(one, name="copy", predicted=one.predicted[::-1]))
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert (found.p, found.p_bootstrap) == (1, 1)


def test_direction_and_order():
    for metric in ("rmse", "spearman"):
        one, other = rivals(metric, 200, noise=(0.2, 2.0))
        found, back = compare(one, other), compare(other, one)
        assert found.better == back.better == "one"
        assert found.difference == -back.difference == found.values[0] - found.values[1]
        assert (found.low, found.high) == pytest.approx((-back.high, -back.low))
        assert (found.p, found.p_bootstrap) == (back.p, back.p_bootstrap)
        assert found.low < found.difference < found.high


def test_other_items_are_refused():
    one, other = rivals("rmse", 20)
    with pytest.raises(UserError, match="one and other cannot be compared"):
        compare(one, dataclasses.replace(other, data="9999"))


# Binomial bounds of 99.9 % on the rejections of 500 tests at a level of 5 %.
REPETITIONS = 500
LOWEST, HIGHEST = (float(stats.binom.ppf(q, REPETITIONS, 0.05)) for q in (0.0005, 0.9995))


@pytest.mark.parametrize(
    ("metric", "seeds"),
    [("rmse", (1, 1)), ("auroc", (1, 1)), ("accuracy", (1, 1)), ("rmse", (2, 2))],
)
def test_under_the_null_the_tests_reject_at_their_level(metric, seeds):
    permuted = bootstrapped = 0
    for repetition in range(REPETITIONS):
        one, other = rivals(metric, 100, seed=repetition, seeds=seeds)
        permuted += permutation_test(one, other, metric, draws=199)[0] <= 0.05
        bootstrapped += paired_bootstrap(one, other, metric, resamples=199)[2] <= 0.05
    # Ties of a coarse statistic make an exact test conservative, never liberal.
    lowest = 5 if metric == "accuracy" else LOWEST
    assert lowest <= permuted <= HIGHEST
    assert lowest <= bootstrapped <= HIGHEST


@pytest.mark.parametrize("metric", METRICS)
def test_a_planted_difference_is_found(metric):
    found = []
    for repetition in range(40):
        one, other = rivals(metric, 150, noise=(0.3, 2.5), seed=repetition)
        c = compare(one, other, draws=199, resamples=200)
        found.append(c.p <= 0.05 and c.p_bootstrap <= 0.05 and c.better == "one")
    assert np.mean(found) > 0.8


def test_pairing_finds_what_two_separate_intervals_do_not():
    """Errors with a common cause: each score is uncertain, their difference is not."""
    rng = np.random.default_rng(0)
    truth, common = rng.normal(size=(2, 200))
    one = made("one", truth, truth + 2 * common + 0.1 * rng.normal(size=200))
    other = made("other", truth, truth + 2 * common * 1.1 + 0.1 * rng.normal(size=200))
    found = compare(one, other)
    separate = [np.percentile(resampled("rmse", c.truth, c.predicted[0]), [2.5, 97.5])
                for c in (one, other)]  # fmt: skip
    assert separate[0][1] > separate[1][0]
    assert found.p < 0.01 and found.high < 0
