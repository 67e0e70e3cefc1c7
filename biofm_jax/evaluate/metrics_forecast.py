"""Metrics of forecasts: weighted interval score of quantiles, coverage of intervals."""

import numpy as np
from jaxtyping import Float

from biofm_jax.errors import UserError


def weighted_interval_score(
    truth: Float[np.ndarray, " n"],
    quantiles: Float[np.ndarray, "n q"],
    levels: Float[np.ndarray, " q"],
) -> Float[np.ndarray, " n"]:
    """The score of forecast hubs, in the unit of the truth; 0 is perfect (Bracher et al. 2021).

    With K central intervals of level 1 - a_k and a median m,
    (|y - m| / 2 + sum_k a_k / 2 IS_k) / (K + 1/2), where IS_k is the width of an interval plus
    2 / a_k times how far the truth lies outside. It is computed as twice the mean pinball loss
    of the quantiles, which is the same.

    Args:
        truth: (n,) observed values.
        quantiles: (n, q) predicted quantiles, rising along a row.
        levels: (q,) their levels: rising, symmetric, with the median, as 0.025, 0.5, 0.975.

    Returns:
        (n,) scores.

    Raises:
        UserError: shapes differ, levels are not such, a row falls, or a value is not finite.
    """
    truth, quantiles, levels = _forecast(truth, quantiles, levels)
    below = truth[:, None] - quantiles
    return 2 * np.maximum(levels * below, (levels - 1) * below).mean(1)


def central_interval(
    quantiles: Float[np.ndarray, "n q"], levels: Float[np.ndarray, " q"], level: float
) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper end, (n,) each, of the central interval of a level, such as 0.95.

    Raises:
        UserError: the forecast lacks one of the two quantiles; the message names it.
    """
    ends = []
    for wanted in ((1 - level) / 2, (1 + level) / 2):
        found = np.flatnonzero(np.isclose(levels, wanted, rtol=0, atol=1e-9))
        if not len(found):
            raise UserError(
                f"a {level:.0%} interval needs the quantile {wanted:g}; there are "
                f"{', '.join(f'{x:g}' for x in levels)}"
            )
        ends.append(np.asarray(quantiles)[:, found[0]])
    return ends[0], ends[1]


def covered(
    truth: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """1.0 where the truth lies in [low, high], else 0.0; the mean is the coverage.

    The best coverage is the nominal one, not the highest.

    Raises:
        UserError: shapes differ, a value is nan, or an interval ends before it starts.
    """
    truth, low, high = (np.asarray(array, np.float64) for array in (truth, low, high))
    if truth.ndim != 1 or not truth.shape == low.shape == high.shape:
        raise UserError(
            f"truth {truth.shape}, low {low.shape} and high {high.shape} should all be (n,)"
        )
    if np.isnan(truth + low).any() or np.isnan(high).any():
        raise UserError("a true value or an end of an interval is nan")
    if (low > high).any():
        raise UserError(f"the interval of item {int(np.argmax(low > high))} ends before it starts")
    return ((low <= truth) & (truth <= high)).astype(float)


def _forecast(truth, quantiles, levels):
    truth, quantiles, levels = (np.asarray(a, np.float64) for a in (truth, quantiles, levels))
    if truth.ndim != 1 or quantiles.shape != (*truth.shape, *levels.shape) or levels.ndim != 1:
        raise UserError(
            f"truth {truth.shape}, quantiles {quantiles.shape} and levels {levels.shape} should "
            "be (n,), (n, q) and (q,)"
        )
    if (
        not len(levels) % 2
        or not (np.diff(levels) > 0).all()
        or not 0 < levels[0] <= levels[-1] < 1
        or not np.allclose(levels + levels[::-1], 1, rtol=0, atol=1e-9)
    ):
        raise UserError(
            "the levels of a weighted interval score rise between 0 and 1, are symmetric and hold "
            f"the median, as 0.025, 0.5, 0.975; not {', '.join(f'{x:g}' for x in levels)}"
        )
    if not np.isfinite(truth).all() or not np.isfinite(quantiles).all():
        raise UserError("a true value or a predicted quantile is not finite")
    falling = (np.diff(quantiles, axis=1) < 0).any(1)
    if falling.any():
        raise UserError(
            f"the quantiles of item {int(np.argmax(falling))} cross: sort each row first"
        )
    return truth, quantiles, levels
