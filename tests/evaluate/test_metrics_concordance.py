"""The C-index in n log n time is the sum over all pairs."""

import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import metric_value, score
from biofm_jax.evaluate.metrics_concordance import cindex, cindex_block
from biofm_jax.evaluate.metrics_survival import concordance_block


def slow(truth, guess) -> float:
    """As published, with loops."""
    won = compared = 0.0
    for one in range(len(truth)):
        for other in range(len(truth)):
            if truth[one] > truth[other]:
                apart = guess[one] - guess[other]
                won += 1.0 if apart > 0 else 0.5 if apart == 0 else 0.0
                compared += 1
    return won / compared


@pytest.mark.parametrize("levels", [2, 6, 1000])
@pytest.mark.parametrize("n", [2, 3, 17, 64, 65])
def test_the_fast_form_is_the_slow_form(n, levels):
    rng = np.random.default_rng([n, levels])
    for _ in range(5):
        truth, guess = rng.integers(0, levels, (2, n)) / 7
        if np.ptp(truth):
            assert cindex(truth, guess) == pytest.approx(slow(truth, guess), abs=1e-12)


def test_under_counts_it_is_that_of_the_drawn_items():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 5, (2, 40)) * 1.0
    counts = rng.integers(0, 4, (6, 40)) * 1.0
    found = cindex_block(truth, guess, counts)
    for row, value in zip(counts.astype(int), found, strict=True):
        assert value == pytest.approx(slow(np.repeat(truth, row), np.repeat(guess, row)))
    without = concordance_block(np.column_stack([truth, np.ones(40), -guess]), counts)
    np.testing.assert_allclose(found, without, atol=1e-12)  # Harrell's, nobody censored


def test_what_a_constant_and_a_reversed_prediction_get():
    truth = np.arange(9.0)
    assert cindex(truth, np.zeros(9)) == 0.5
    assert cindex(truth, -truth) == 0 and cindex(truth, truth) == 1
    with pytest.raises(UserError, match="every true value"):
        cindex(np.ones(4), np.arange(4.0))
    assert np.isnan(cindex_block(truth, truth, np.eye(9)[:1])).all()


def test_mean_squared_error_is_the_square_of_rmse():
    rng = np.random.default_rng(1)
    truth, guess = rng.normal(size=(2, 50, 1))
    for part in ("value", "low", "high"):
        mse, rmse = (getattr(score(name, truth, guess), part) for name in ("mse", "rmse"))
        assert mse == pytest.approx(rmse**2)
    assert metric_value("mse", truth, guess) == pytest.approx(((truth - guess) ** 2).mean())
