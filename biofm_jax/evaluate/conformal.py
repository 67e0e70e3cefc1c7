"""Split conformal prediction: intervals and sets of classes that hold the truth at a set rate.

The promise (Vovk et al. 2005): if validation and test items are exchangeable, a new item's truth
is covered with a chance of at least the level, and of at most 1 / (n + 1) more where scores are
not tied. It holds on average over validation and test sets, not within a subgroup, and not after
a shift such as a new site, scaffold or year; there the measured coverage tells. The model must
not have been fitted to, or chosen on, the validation items that calibrate it.
"""

import dataclasses
import math
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats

from biofm_jax.errors import UserError
from biofm_jax.evaluate.bootstrap import LEVEL, Score, score_items
from biofm_jax.evaluate.metrics_forecast import covered

Method = Literal["lac", "aps"]


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What conformal prediction promised and what it did on test items.

    Attributes:
        nominal: the promised coverage.
        coverage: the measured one, with its interval over test items.
        size: mean width of the intervals (in the label's unit), or mean classes in a set.
        n_calibration: validation items it was calibrated on.
    """

    nominal: float
    coverage: Score
    size: float
    n_calibration: int

    @property
    def broken(self) -> bool:
        """Whether the promise is broken beyond the luck of test and calibration items.

        With n calibration items the coverage of exchangeable test items is itself a draw, from
        Beta(r, n + 1 - r) with r = ceil((n + 1) level) (Vovk, arXiv 1209.2673): of 20 items it
        falls below 83 % once in forty. The promise is broken where the upper end of the measured
        coverage is lower than that.
        """
        rank = _rank(self.n_calibration, self.nominal)
        chance = stats.beta.cdf(self.coverage.high, rank, self.n_calibration + 1 - rank)
        return bool(chance < (1 - LEVEL) / 2)


def conformal_quantile(scores: Float[np.ndarray, " n"], level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n nonconformity scores.

    The n + 1 counts the new item: the plain quantile would cover a little too rarely.

    Raises:
        UserError: the level is not between 0 and 1, or the items are too few for it.
    """
    if not 0 < level < 1:
        raise UserError(f"a coverage lies between 0 and 1, not {level:g}")
    rank = _rank(len(scores), level)
    if rank > len(scores):
        needed = math.ceil(round(level / (1 - level), 9))
        raise UserError(
            f"{level:.0%} coverage needs at least {needed} validation items; there are "
            f"{len(scores)}: lower the level or hold out more"
        )
    return float(np.sort(scores)[rank - 1])


def _rank(n: int, level: float) -> int:
    # Rounded, as 20 * 0.95 must be 19 and not the next number after it.
    return math.ceil(round((n + 1) * level, 9))


def conformal_interval(
    valid_truth: Float[np.ndarray, " v"],
    valid_predicted: Float[np.ndarray, " v"],
    test_predicted: Float[np.ndarray, " m"],
    level: float = LEVEL,
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Intervals of one width around predicted numbers, from absolute residuals.

    Args:
        valid_truth: (v,) labels of validation items.
        valid_predicted: (v,) their predictions.
        test_predicted: (m,) predictions of test items.
        level: coverage.

    Returns:
        (m,) lower and (m,) upper ends, in the label's unit.

    Raises:
        UserError: shapes differ, or there are too few validation items.
    """
    if valid_truth.shape != valid_predicted.shape or valid_truth.ndim != 1:
        raise UserError(
            f"validation labels {valid_truth.shape} and predictions {valid_predicted.shape} should "
            "both be (v,)"
        )
    half = conformal_quantile(np.abs(valid_truth - valid_predicted), level)
    return test_predicted - half, test_predicted + half


def conformal_sets(
    valid_labels: Shaped[np.ndarray, " v"],
    valid_probabilities: Float[np.ndarray, "v c"],
    test_probabilities: Float[np.ndarray, "m c"],
    level: float = LEVEL,
    method: Method = "lac",
    seed: int = 0,
) -> Bool[np.ndarray, "m c"]:
    """Sets of classes.

    "lac" keeps the classes with a probability above one threshold: the smallest sets on average
    (Sadinle et al. 2019), empty where no class convinces. "aps" adds classes from the most
    probable until enough is gathered (Romano et al. 2020): larger sets on hard items, smaller on
    easy ones, so that coverage varies less among items. It draws a number for each item to enter
    the last class by chance; without that it would cover too often. Its sets can be empty too.

    Args:
        valid_labels: (v,) class numbers from 0.
        valid_probabilities: (v, c) rows sum to 1.
        test_probabilities: (m, c).
        level: coverage.
        method: "lac" or "aps".
        seed: of the draws of "aps".

    Returns:
        (m, c) whether a class is in the set.

    Raises:
        UserError: shapes do not fit, another method, or too few validation items.
    """
    v, c = valid_probabilities.shape
    if valid_labels.shape != (v,) or test_probabilities.shape[1:] != (c,):
        raise UserError(
            f"labels {valid_labels.shape}, probabilities {valid_probabilities.shape} and "
            f"{test_probabilities.shape} should be (v,), (v, c) and (m, c)"
        )
    if method == "lac":
        valid_scores, test_scores = 1 - valid_probabilities, 1 - test_probabilities
    elif method == "aps":
        rng = np.random.default_rng(seed)
        valid_scores = _gathered(valid_probabilities, rng.random(v))
        test_scores = _gathered(test_probabilities, rng.random(len(test_probabilities)))
    else:
        raise UserError(f'there is no conformal method {method!r}: use "lac" or "aps"')
    true = valid_scores[np.arange(v), valid_labels.astype(int)]
    return test_scores <= conformal_quantile(true, level)


def interval_coverage(
    truth: Float[np.ndarray, " m"],
    low: Float[np.ndarray, " m"],
    high: Float[np.ndarray, " m"],
    level: float,
    n_calibration: int,
) -> Coverage:
    """The coverage of intervals on test items; arguments as above."""
    hits = covered(truth, low, high)
    return Coverage(level, score_items(np.mean, [hits]), float(np.mean(high - low)), n_calibration)


def set_coverage(
    labels: Shaped[np.ndarray, " m"],
    sets: Bool[np.ndarray, "m c"],
    level: float,
    n_calibration: int,
) -> Coverage:
    """The coverage of sets of classes on test items; arguments as above."""
    hits = sets[np.arange(len(sets)), labels.astype(int)].astype(float)
    return Coverage(level, score_items(np.mean, [hits]), float(sets.sum(1).mean()), n_calibration)


def _gathered(probabilities: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(n, c) probability of all classes before each one, and a (n,) share of its own."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, 1)
    scores = np.empty_like(ranked)
    before = np.cumsum(ranked, axis=1) - ranked
    np.put_along_axis(scores, order, before + share[:, None] * ranked, 1)
    return scores
