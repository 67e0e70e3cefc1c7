"""Metrics of treatment effects, where the true effect of every item is known (simulation)."""

import numpy as np
from jaxtyping import Float

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics_number import weighted_mean


def effect_items(
    true_effect: Float[np.ndarray, " n"], predicted_effect: Float[np.ndarray, " n"]
) -> np.ndarray:
    """(n, 2) columns error and squared error of each item's effect.

    Args:
        true_effect: (n,) outcome with treatment less outcome without, in the outcome's unit.
        predicted_effect: (n,) the same, predicted.

    Raises:
        UserError: shapes differ or a value is not finite.
    """
    true, guess = (np.asarray(a, np.float64) for a in (true_effect, predicted_effect))
    if true.ndim != 1 or true.shape != guess.shape or not len(true):
        raise UserError(f"effects {true.shape} and {guess.shape} should both be (n,)")
    if not np.isfinite(true).all() or not np.isfinite(guess).all():
        raise UserError("an effect is not finite")
    return np.column_stack([guess - true, (guess - true) ** 2])


def pehe(true_effect: Float[np.ndarray, " n"], predicted_effect: Float[np.ndarray, " n"]) -> float:
    """Precision in estimating heterogeneous effects: root mean squared error (Hill 2011)."""
    return float(np.sqrt(effect_items(true_effect, predicted_effect)[:, 1].mean()))


def pehe_block(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(r,) PEHE of (n, 2) `effect_items` under (r, n) counts."""
    return np.sqrt(weighted_mean(items[:, 1], counts))


def ate_error(
    true_effect: Float[np.ndarray, " n"], predicted_effect: Float[np.ndarray, " n"]
) -> float:
    """Distance of the predicted from the true average effect over the items.

    Its bootstrap values are distances too: where the error is near 0, its interval is not
    centred on it.
    """
    return float(abs(effect_items(true_effect, predicted_effect)[:, 0].mean()))


def ate_error_block(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(r,) ATE errors of (n, 2) `effect_items` under (r, n) counts."""
    return np.abs(weighted_mean(items[:, 0], counts))
