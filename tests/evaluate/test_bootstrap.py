import numpy as np
import pytest
from scipy import stats

from biofm_jax.errors import UserError
from biofm_jax.evaluate import bootstrap
from biofm_jax.evaluate.bootstrap import (
    draws,
    interval,
    resampled_items,
    score_items,
    widest_gap,
)
from biofm_jax.evaluate.metrics import METRICS, resampled


def test_draws_depend_on_n_and_seed_alone(monkeypatch):
    want = np.random.default_rng(3).integers(0, 17, (50, 17))
    np.testing.assert_array_equal(np.concatenate(list(draws(17, 50, seed=3))), want)
    monkeypatch.setattr(bootstrap, "_CELLS", 40)
    blocks = list(draws(17, 50, seed=3))
    assert len(blocks) > 10
    np.testing.assert_array_equal(np.concatenate(blocks), want)


@pytest.mark.parametrize("name", ["spearman", "auroc", "f1"])
def test_any_statistic_sees_the_draws_of_the_metrics(name):
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 2, 30).astype(float), rng.integers(0, 3, 30).astype(float)
    want = resampled(name, truth[:, None], guess[:, None], resamples=60, seed=5)
    got = resampled_items(METRICS[name].point, [truth, guess], resamples=60, seed=5)
    np.testing.assert_allclose(got, want, atol=1e-9)


def test_a_statistic_that_refuses_a_resample_leaves_it_out():
    def one_value(items):
        if len(np.unique(items)) > 1:
            raise UserError("more than one")
        return items[0]

    values = resampled_items(one_value, [np.array([1.0, 2])], resamples=100)
    assert 20 < np.isnan(values).sum() < 80
    assert interval(values) == (1.0, 2.0)
    with pytest.raises(UserError, match="no resample"):
        interval(np.full(5, np.nan))


def test_score_of_items_is_the_value_and_the_percentiles():
    items = np.random.default_rng(0).exponential(size=80)
    found = score_items(np.median, [items])
    rows = np.random.default_rng(0).integers(0, 80, (1000, 80))
    want = np.percentile(np.median(items[rows], axis=1), [2.5, 97.5])
    assert found.value == np.median(items)
    assert (found.low, found.high) == pytest.approx(tuple(want), abs=1e-12)


def test_items_must_fit_and_exist():
    with pytest.raises(UserError, match=r"lengths \[2, 3\]"):
        score_items(np.mean, [np.ones(2), np.ones(3)])
    with pytest.raises(UserError, match="no test items"):
        score_items(len, [np.ones(0)])


def correlated(rng, n):
    """(n, 1) labels and predictions of a correlation of 0.6."""
    truth = rng.normal(size=(n, 1))
    return truth, 0.6 * truth + 0.8 * rng.normal(size=(n, 1))


def two_classes(rng, n):
    """(n, 1) labels and scores one deviation apart."""
    truth = rng.integers(0, 2, (n, 1)).astype(float)
    return truth, truth + rng.normal(size=(n, 1))


# A known population value for each, by theory.
PLANTED = {
    "mae": (correlated, np.sqrt(0.8) * np.sqrt(2 / np.pi)),  # residual variance 0.4^2 + 0.8^2
    "spearman": (correlated, 6 / np.pi * np.arcsin(0.6 / 2)),
    "auroc": (two_classes, stats.norm.cdf(1 / np.sqrt(2))),
}


def coverage(name, level, repetitions=200, n=300):
    """How often the interval of a fresh sample holds the population value."""
    sample, true = PLANTED[name]
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(repetitions):
        low, high = interval(resampled(name, *sample(rng, n), resamples=500), level)
        hits += low <= true <= high
    return hits / repetitions


@pytest.mark.parametrize("name", PLANTED)
def test_intervals_cover_the_true_value_at_the_nominal_rate(name):
    assert 0.92 <= coverage(name, 0.95) <= 0.98


def test_narrower_intervals_cover_less():
    """The measure of coverage itself: 80 % intervals are not mistaken for 95 % ones."""
    assert 0.74 <= coverage("mae", 0.8) <= 0.86


def equal_groups(rng):
    """Values and draws of five groups of 60 items with the same mean."""
    samples = rng.normal(size=(5, 60))
    samples = samples[np.argsort(-samples.mean(1))]
    rows = rng.integers(0, 60, (5, 300, 60))
    return samples.mean(1), np.stack([s[r].mean(1) for s, r in zip(samples, rows)], axis=1)


def test_the_gap_of_equal_groups_is_seldom_claimed():
    """The best and worst of five equal groups: a plain interval would claim a gap too often."""
    rng = np.random.default_rng(0)
    claimed, plain = 0, 0
    for _ in range(200):
        values, resamples = equal_groups(rng)
        claimed += widest_gap(values, resamples).low > 0
        plain += interval(resamples[:, 0] - resamples[:, -1])[0] > 0
    assert claimed / 200 <= 0.09
    assert plain / 200 > 0.15


def test_the_gap_of_two_groups_covers_their_true_distance():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        one, two = rng.normal(2.0, 1, 80), rng.normal(0.5, 2, 80)
        rows = rng.integers(0, 80, (2, 400, 80))
        resamples = np.stack([one[rows[0]].mean(1), two[rows[1]].mean(1)], axis=1)
        found = widest_gap(np.array([one.mean(), two.mean()]), resamples)
        hits += found.low <= 1.5 <= found.high
        assert found.value == pytest.approx(one.mean() - two.mean())
    assert 0.92 <= hits / 200 <= 0.98
