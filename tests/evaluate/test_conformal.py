import numpy as np
import pytest
from scipy import special

from biofm_jax.errors import UserError
from biofm_jax.evaluate.bootstrap import Score
from biofm_jax.evaluate.conformal import (
    Coverage,
    _gathered,
    conformal_interval,
    conformal_quantile,
    conformal_sets,
    interval_coverage,
    set_coverage,
)

REPETITIONS = 400


def labelled(rng, n, classes=5):
    """Probabilities of a model that is wrong about its own certainty, and labels."""
    logits = rng.normal(scale=2, size=(n, classes))
    chances = special.softmax(logits, axis=1)
    labels = (chances.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=classes - 1)
    return special.softmax(2 * logits, axis=1), labels


def mean_within(hits, want, most=0.0):
    """Whether the mean of independent rates is `want` to `want + most`, to 3.5 standard errors."""
    error = 3.5 * np.std(hits, ddof=1) / np.sqrt(len(hits))
    return want - error <= np.mean(hits) <= want + most + error


@pytest.mark.parametrize(("n", "level"), [(19, 0.95), (39, 0.95), (50, 0.9), (200, 0.8)])
def test_intervals_cover_at_their_level(n, level):
    """Few calibration items: the plain quantile would miss by about 1 / n."""
    rng = np.random.default_rng(0)
    hits, plain = [], []
    for _ in range(REPETITIONS * 4):
        truth, predicted = rng.standard_t(3, n + 100), rng.normal(size=n + 100)
        low, high = conformal_interval(truth[:n], predicted[:n], predicted[n:], level)
        hits.append(np.mean((low <= truth[n:]) & (truth[n:] <= high)))
        half = np.quantile(np.abs(truth - predicted)[:n], level)
        plain.append(np.mean(np.abs(truth - predicted)[n:] <= half))
    assert mean_within(hits, level, 1 / (n + 1))
    if n < 40:
        assert not mean_within(plain, level, 1 / (n + 1))


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_sets_cover_at_their_level(method, level):
    rng = np.random.default_rng(0)
    hits = []
    for repetition in range(REPETITIONS):
        chances, labels = labelled(rng, 160)
        sets = conformal_sets(labels[:60], chances[:60], chances[60:], level, method, repetition)
        hits.append(sets[np.arange(100), labels[60:]].mean())
    assert mean_within(hits, level, 1 / 61)


def test_lac_has_the_smaller_sets_and_aps_the_more_even_coverage():
    rng = np.random.default_rng(0)
    chances, labels = labelled(rng, 6000)
    sure = chances[3000:].max(1) > np.median(chances[3000:].max(1))
    sizes, unevenness = {}, {}
    for method in ("lac", "aps"):
        sets = conformal_sets(labels[:3000], chances[:3000], chances[3000:], 0.9, method)
        hit = sets[np.arange(3000), labels[3000:]]
        sizes[method] = sets.sum(1).mean()
        unevenness[method] = abs(hit[sure].mean() - hit[~sure].mean())
    assert sizes["lac"] < sizes["aps"]
    assert unevenness["aps"] < unevenness["lac"]


def test_aps_scores_by_hand():
    """With u = 1 a set ends with the class that reaches the threshold."""
    chances = np.array([[0.1, 0.6, 0.3]])
    np.testing.assert_allclose(_gathered(chances, np.ones(1)), [[1.0, 0.6, 0.9]])
    np.testing.assert_allclose(_gathered(chances, np.zeros(1)), [[0.9, 0.0, 0.6]])


def test_the_quantile_counts_the_new_item():
    scores = np.arange(1.0, 20)  # 19 of them
    assert conformal_quantile(scores, 0.95) == 19
    assert conformal_quantile(scores, 0.9) == 18
    assert conformal_quantile(scores[::-1], 0.5) == 10
    with pytest.raises(UserError, match=r"95% coverage needs at least 19 validation items.*18"):
        conformal_quantile(scores[:18], 0.95)
    with pytest.raises(UserError, match="between 0 and 1"):
        conformal_quantile(scores, 95)


def test_coverage_on_test_items_has_an_interval_and_a_width():
    truth = np.arange(10.0)
    low, high = truth - 1, truth + np.where(truth < 8, 1, -0.5)
    found = interval_coverage(truth, low, high, 0.9, n_calibration=50)
    assert (found.nominal, found.coverage.value, found.n_calibration) == (0.9, 0.8, 50)
    assert found.coverage.low < 0.8 < found.coverage.high
    assert found.size == pytest.approx((8 * 2 + 2 * 0.5) / 10)
    sets = np.array([[True, False], [True, True]])
    both = set_coverage(np.array([1, 1]), sets, 0.9, 50)
    assert (both.coverage.value, both.size) == (0.5, 1.5)


def test_shapes_and_methods_are_checked():
    chances = np.full((30, 2), 0.5)
    with pytest.raises(UserError, match="no conformal method 'raps'"):
        conformal_sets(np.zeros(30), chances, chances, 0.9, "raps")
    with pytest.raises(UserError, match=r"\(30, 2\) and \(30, 3\)"):
        conformal_sets(np.zeros(30), chances, np.zeros((30, 3)), 0.9)
    with pytest.raises(UserError, match=r"labels \(30,\) and predictions \(29,\)"):
        conformal_interval(np.zeros(30), np.zeros(29), np.zeros(3))


def test_a_promise_is_broken_only_beyond_luck():
    rng = np.random.default_rng(0)

    def measured(n, scale):
        valid, test = rng.normal(size=n), scale * rng.normal(size=500)
        low, high = conformal_interval(valid, np.zeros(n), np.zeros(500))
        return interval_coverage(test, low, high, 0.95, n)

    for n in (19, 50):
        assert np.mean([measured(n, 1.0).broken for _ in range(200)]) <= 0.03
    assert all(measured(400, 2.0).broken for _ in range(20))
    # By 20 calibration items, 84 % says little.
    assert not Coverage(0.95, Score(0.82, 0.80, 0.845), 1.0, 20).broken
    assert Coverage(0.95, Score(0.80, 0.78, 0.82), 1.0, 20).broken
