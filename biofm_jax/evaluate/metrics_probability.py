"""Metrics of the probability of a 0/1 label: Brier score and expected calibration error.

Point and block forms as in `metrics_number`. `top_label` makes a 0/1 problem of many classes.
"""

import numpy as np
from jaxtyping import Float, Shaped

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics_class import zero_or_one
from biofm_jax.evaluate.metrics_number import weighted_mean

BINS = 15


def brier(truth, guess) -> float:
    """Mean squared difference of probability and label (Brier 1950, on the class 1 alone).

    Raises:
        UserError: labels are not 0 and 1, or a prediction is no probability.
    """
    return float(brier_block(truth, guess, np.ones((1, len(truth))))[0])


def brier_block(truth, guess, counts):
    """(r,) Brier scores."""
    _probabilities("the Brier score", truth, guess)
    return weighted_mean((truth - guess) ** 2, counts)


def ece(truth, guess) -> float:
    """Expected calibration error in 15 equal bins (low, high] of the predicted probability.

    The mean over items of |share of ones - mean probability| of the item's bin (Naeini et al.
    2015; Guo et al. 2017). It is biased upwards on few items, and a resample adds the same bias
    once more: the percentile interval of a well calibrated model can lie above the value. Two
    values are comparable on the same items only; `ece_by_chance` is the floor.

    Raises:
        UserError: labels are not 0 and 1, or a prediction is no probability.
    """
    return float(ece_block(truth, guess, np.ones((1, len(truth))))[0])


def ece_block(truth, guess, counts):
    """(r,) expected calibration errors."""
    _probabilities("ECE", truth, guess)
    member = bin_of(guess)[:, None] == np.arange(BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(counts @ (member * (truth - guess)[:, None])).sum(1) / counts.sum(1)


def ece_by_chance(guess: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """(resamples,) ECE of the same probabilities on labels drawn from them.

    What perfect calibration would show on so many items, by luck alone.

    Args:
        guess: (n,) probabilities of 1.
        resamples: sets of n labels.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    member = (bin_of(guess)[:, None] == np.arange(BINS)).astype(float)
    gaps = [((rng.random(len(guess)) < guess) - guess) @ member for _ in range(resamples)]
    return np.abs(gaps).sum(1) / len(guess)


def bin_of(probability: np.ndarray) -> np.ndarray:
    """The one of 15 equal bins (low, high] that each probability falls in; 0 is in the first."""
    return np.maximum(np.searchsorted(np.linspace(0, 1, BINS + 1), probability) - 1, 0)


def top_label(
    truth: Shaped[np.ndarray, " n"], probabilities: Float[np.ndarray, "n c"]
) -> tuple[np.ndarray, np.ndarray]:
    """Many classes as one 0/1 problem: is the most probable class the true one?

    `ece(*top_label(truth, probabilities))` is the confidence calibration error of Guo et al.
    2017.

    Args:
        truth: (n,) class numbers.
        probabilities: (n, c), rows sum to 1.

    Returns:
        (n,) 1.0 where the first most probable class is right, and (n,) its probability.
    """
    chosen = probabilities.argmax(1)
    return (chosen == truth).astype(float), np.take_along_axis(
        probabilities, chosen[:, None], 1
    ).ravel()


def _probabilities(name, truth, guess) -> None:
    zero_or_one(name, truth)
    outside = (guess < 0) | (guess > 1)
    if outside.any():
        raise UserError(
            f"{name} wants probabilities, not {guess[outside][0]:g}: pass scores through a "
            "sigmoid first"
        )
