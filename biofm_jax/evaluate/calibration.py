"""Are probabilities what they say? Reliability bins, ECE and Brier, temperature scaling."""

import dataclasses

import numpy as np
from jaxtyping import Float, Shaped
from scipy import optimize, special, stats

from biofm_jax.errors import UserError
from biofm_jax.evaluate.bootstrap import LEVEL, RESAMPLES, Score, interval
from biofm_jax.evaluate.metrics import score
from biofm_jax.evaluate.metrics_probability import BINS, bin_of, ece_by_chance

COLDEST, HOTTEST = 1e-3, 1e3
_SMALLEST = 1e-12  # probability whose logarithm is still taken


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """One bar of a reliability plot: the items whose probability of 1 is in (low, high].

    Attributes:
        low: lower end.
        high: upper end.
        n: items.
        predicted: their mean probability, None without items.
        observed: their share of ones, None without items.
        observed_low: lower end of its 95 % Wilson interval, None without items.
        observed_high: upper end.
    """

    low: float
    high: float
    n: int
    predicted: float | None
    observed: float | None
    observed_low: float | None
    observed_high: float | None


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far probabilities of a 0/1 label can be believed.

    Attributes:
        ece: expected calibration error and interval, the mean over label columns.
        ece_by_chance: mean and central 95 % of the ECE that the same probabilities would show
            if they were exactly right; an ECE inside it is no sign of bad calibration.
        brier: Brier score and interval, the mean over label columns.
        bins: 15 equal bins of the probability, all label columns together.
    """

    ece: Score
    ece_by_chance: Score
    brier: Score
    bins: tuple[ReliabilityBin, ...]


def calibration(
    truth: Float[np.ndarray, "n k"], predicted: Float[np.ndarray, "n k"]
) -> Calibration:
    """ECE, Brier score and reliability bins of a binary task.

    Args:
        truth: (n, k) 0 or 1, nan = missing.
        predicted: (n, k) probabilities of 1.

    Raises:
        UserError: labels are not 0 and 1, or predictions are no probabilities.
    """
    have = ~np.isnan(truth)
    error = score("ece", truth, predicted)
    columns = [predicted[rows, column] for column, rows in enumerate(have.T)]
    chance = np.mean(
        [ece_by_chance(guess, RESAMPLES, seed) for seed, guess in enumerate(columns)], axis=0
    )
    return Calibration(
        error,
        Score(float(chance.mean()), *interval(chance)),
        score("brier", truth, predicted),
        reliability_bins(truth[have], predicted[have]),
    )


def reliability_bins(
    truth: Float[np.ndarray, " n"], probability: Float[np.ndarray, " n"]
) -> tuple[ReliabilityBin, ...]:
    """The data of a reliability plot, in 15 equal bins; ECE is their weighted mean gap.

    Many classes: pass what `metrics_probability.top_label` gives.

    Args:
        truth: (n,) 0 or 1.
        probability: (n,) of 1.
    """
    edges, place = np.linspace(0, 1, BINS + 1), bin_of(probability)
    bins = []
    for number in range(BINS):
        inside = place == number
        n = int(inside.sum())
        means = (None,) * 4
        if n:
            ones = int(truth[inside].sum())
            ends = stats.binomtest(ones, n).proportion_ci(LEVEL, method="wilson")
            means = (float(probability[inside].mean()), ones / n, float(ends.low), float(ends.high))
        bins.append(ReliabilityBin(float(edges[number]), float(edges[number + 1]), n, *means))
    return tuple(bins)


def log_probabilities(
    probability: Float[np.ndarray, " n"] | Float[np.ndarray, "n c"],
) -> Float[np.ndarray, "n c"]:
    """Logits of probabilities, for temperature scaling where the model gives no logits.

    Args:
        probability: (n, c) rows that sum to 1, or (n,) probabilities of 1.

    Returns:
        (n, c) logarithms, (n, 2) for a 0/1 label; softmax gives the probabilities back.
    """
    if probability.ndim == 1:
        probability = np.stack([1 - probability, probability], axis=1)
    return np.log(np.maximum(probability, _SMALLEST))


def fit_temperature(logits: Float[np.ndarray, "n c"], labels: Shaped[np.ndarray, " n"]) -> float:
    """The temperature with the lowest log loss on validation items (Guo et al. 2017).

    Above 1 the model was too sure of itself. The order of classes never changes, so neither do
    accuracy and, for a 0/1 label, AUROC. Labels of test items must not come here.

    Args:
        logits: (n, c) of validation items.
        labels: (n,) class numbers from 0.

    Raises:
        UserError: shapes do not fit, or the loss has no lowest point: every item is right with
            any sharpness, or the logits say nothing about the labels.
    """
    n = len(logits)
    if logits.ndim != 2 or labels.shape != (n,) or not n:
        raise UserError(f"logits {logits.shape} and labels {labels.shape} should be (n, c), (n,)")
    index = labels.astype(int)
    if (index != labels).any() or index.min() < 0 or index.max() >= logits.shape[1]:
        raise UserError(f"labels must be class numbers from 0 to {logits.shape[1] - 1}")
    true = logits[np.arange(n), index].mean()

    def slope(log_sharpness: float) -> float:
        """Of the log loss over 1 / temperature, in which it is convex."""
        weights = special.softmax(logits * np.exp(log_sharpness), axis=1)
        return float((weights * logits).sum(1).mean() - true)

    dull, sharp = -np.log(HOTTEST), -np.log(COLDEST)
    if slope(dull) >= 0:
        raise UserError("the logits say nothing about the validation labels: no temperature helps")
    if slope(sharp) <= 0:
        raise UserError(
            f"all {n} validation items are right by any temperature: too few or too easy to fit one"
        )
    return float(np.exp(-optimize.brentq(slope, dull, sharp, xtol=1e-12)))


def with_temperature(logits: Float[np.ndarray, "n c"], temperature: float) -> np.ndarray:
    """(n, c) probabilities: the softmax of logits over the temperature."""
    return special.softmax(logits / temperature, axis=1)
