import dataclasses
import json

import numpy as np
import pytest
from scipy import optimize, special, stats
from sklearn.metrics import log_loss

from biofm_jax.errors import UserError
from biofm_jax.evaluate.calibration import (
    calibration,
    fit_temperature,
    log_probabilities,
    reliability_bins,
    with_temperature,
)
from biofm_jax.evaluate.metrics import score
from biofm_jax.evaluate.metrics_probability import ece, top_label


def overconfident(n, temperature=2.5, classes=4, seed=0):
    """Logits and labels drawn from the softmax of the logits over a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(n, classes))
    chances = special.softmax(logits / temperature, axis=1)
    return logits, (chances.cumsum(1) < rng.random((n, 1))).sum(1)


def test_bins_hold_every_item_once_and_give_ece():
    rng = np.random.default_rng(0)
    probability = np.r_[0.0, 1.0, np.round(rng.random(400), 2)]
    truth = (rng.random(402) < probability**2).astype(float)
    bins = reliability_bins(truth, probability)
    assert len(bins) == 15 and sum(each.n for each in bins) == 402
    assert [each.low for each in bins[1:]] == [each.high for each in bins[:-1]]
    for each in bins:
        inside = (probability > each.low) & (probability <= each.high)
        inside |= (probability == 0) & (each.low == 0)
        assert each.n == inside.sum()
        assert each.predicted == pytest.approx(probability[inside].mean())
        assert each.observed == pytest.approx(truth[inside].mean())
        assert each.observed_low <= each.observed <= each.observed_high
    total = sum(each.n * abs(each.predicted - each.observed) for each in bins) / 402
    assert total == pytest.approx(ece(truth, probability), abs=1e-12)


def test_the_interval_of_a_bin_is_wilsons():
    """Wilson 1927 for 3 of 10."""
    bins = reliability_bins(np.array([1.0] * 3 + [0] * 7), np.full(10, 0.5))
    z, n, p = stats.norm.ppf(0.975), 10, 0.3
    middle, half = p + z**2 / 2 / n, z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
    got = bins[7]
    want = ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert (got.observed_low, got.observed_high) == pytest.approx(want, abs=1e-12)
    assert bins[0].n == 0 and bins[0].observed is None


def test_calibration_of_a_task_is_plain_json():
    rng = np.random.default_rng(0)
    predicted = rng.random((100, 2))
    truth = (rng.random((100, 2)) < predicted).astype(float)
    truth[::3, 1] = np.nan
    found = calibration(truth, predicted)
    assert found.ece == score("ece", truth, predicted)
    assert found.brier == score("brier", truth, predicted)
    assert sum(each.n for each in found.bins) == (~np.isnan(truth)).sum()
    again = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert again["bins"][3]["n"] == found.bins[3].n


def test_a_perfect_model_shows_the_error_of_chance():
    """The ECE of labels drawn from the probabilities lies in the range of chance in 95 %."""
    rng = np.random.default_rng(0)
    predicted = rng.random((300, 1))
    inside, found = [], None
    for _ in range(200):
        truth = (rng.random((300, 1)) < predicted).astype(float)
        found = found or calibration(truth, predicted).ece_by_chance
        inside.append(found.low <= ece(truth[:, 0], predicted[:, 0]) <= found.high)
    assert 0.92 <= np.mean(inside) <= 0.98
    assert 0.04 < found.value < 0.1  # far from 0, although nothing is wrong
    wrong = (rng.random((300, 1)) < predicted**3).astype(float)
    bad = calibration(wrong, predicted)
    assert bad.ece.value > bad.ece_by_chance.high


def test_the_planted_temperature_is_found():
    logits, labels = overconfident(6000)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.06)
    assert fit_temperature(logits / 5, labels) == pytest.approx(0.5, rel=0.06)


def test_temperature_is_the_minimum_of_the_log_loss():
    logits, labels = overconfident(300, seed=3)
    found = fit_temperature(logits, labels)
    want = optimize.minimize_scalar(
        lambda t: log_loss(labels, special.softmax(logits / t, axis=1)), bounds=(0.1, 20)
    ).x
    assert found == pytest.approx(want, rel=1e-3)
    # At the minimum the gradient vanishes, to rounding.
    chances = with_temperature(logits, found)
    true = logits[np.arange(300), labels]
    assert (chances * logits).sum(1).mean() == pytest.approx(true.mean(), abs=1e-9)


def test_temperature_of_validation_items_mends_test_items_and_keeps_their_order():
    logits, labels = overconfident(2000)
    temperature = fit_temperature(logits[:1000], labels[:1000])
    before, after = (with_temperature(logits[1000:], t) for t in (1.0, temperature))
    truth = labels[1000:]
    assert ece(*top_label(truth, before)) > 0.15
    assert ece(*top_label(truth, after)) < 0.05
    np.testing.assert_array_equal(before.argmax(1), after.argmax(1))


def test_probabilities_serve_as_logits():
    rng = np.random.default_rng(0)
    one = rng.random(50)
    both = with_temperature(log_probabilities(one), 1.0)
    np.testing.assert_allclose(both, np.stack([1 - one, one], axis=1), atol=1e-12)
    logits, labels = overconfident(500)
    chances = special.softmax(logits, axis=1)
    got = fit_temperature(log_probabilities(chances), labels)
    assert got == pytest.approx(fit_temperature(logits, labels), rel=1e-6)
    assert np.isfinite(log_probabilities(np.array([0.0, 1.0]))).all()


def test_a_temperature_without_a_minimum_is_refused():
    logits = np.array([[3.0, 0], [0, 3.0], [2.0, 0]])
    with pytest.raises(UserError, match="right by any temperature"):
        fit_temperature(logits, np.array([0, 1, 0]))
    with pytest.raises(UserError, match="say nothing"):
        fit_temperature(logits, np.array([1, 0, 1]))
    with pytest.raises(UserError, match="from 0 to 1"):
        fit_temperature(logits, np.array([0, 1, 2]))
