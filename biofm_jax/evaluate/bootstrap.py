"""Bootstrap over test items: the draws that every metric shares, and the intervals they give.

The draws depend on the number of items and the seed alone, so that two models, two metrics or
two groups on the same items see the same resamples and can be compared pair by pair.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from biofm_jax.errors import UserError

RESAMPLES = 1000
LEVEL = 0.95
_CELLS = 1_000_000  # items x resamples held at once: 8 MB an array


@dataclasses.dataclass(frozen=True)
class Score:
    """A metric's value and its 95 % interval over resampled test items."""

    value: float
    low: float
    high: float


def draws(n: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """Blocks of resamples of n items, with replacement.

    Args:
        n: items.
        resamples: in all blocks together.
        seed: of the draws.

    Yields:
        (b, n) item indices; the numbers do not depend on how they are cut into blocks.

    Raises:
        UserError: there are no items.
    """
    if n < 1:
        raise UserError("there are no test items to resample")
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // n)
    for start in range(0, resamples, block):
        yield rng.integers(0, n, (min(block, resamples - start), n))


def resampled_counts(
    block: Callable[[np.ndarray], np.ndarray], n: int, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """A statistic on every resample, from how often each item was drawn.

    Args:
        block: (b, n) float64 counts -> (b, ...) values.
        n: items.
        resamples: how many.
        seed: of the draws.

    Returns:
        (resamples, ...) values.
    """
    values = []
    for drawn in draws(n, resamples, seed):
        flat = (drawn + n * np.arange(len(drawn))[:, None]).ravel()
        values.append(block(np.bincount(flat, minlength=drawn.size).reshape(drawn.shape) * 1.0))
    return np.concatenate(values)


def resampled_items(
    statistic: Callable[..., float],
    arrays: Sequence[np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Any statistic on test items drawn again with replacement, one call per resample.

    Args:
        statistic: the arrays at the drawn items -> a float. Where it raises a `UserError` the
            resample counts as undefined.
        arrays: of n items each, along the first axis.
        resamples: how many.
        seed: of the draws.

    Returns:
        (resamples,) values, nan where undefined; the draws are those of `metrics.resampled`.

    Raises:
        UserError: the arrays differ in length, or are empty.
    """
    n = _items(arrays)

    def value(rows):
        try:
            return float(statistic(*(array[rows] for array in arrays)))
        except UserError:
            return np.nan

    return np.array([value(rows) for drawn in draws(n, resamples, seed) for rows in drawn])


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The central percentile interval of resampled values; nan resamples are left out.

    Raises:
        UserError: every resample is undefined.
    """
    if np.isnan(values).all():
        raise UserError(
            "no resample of the test items defines the metric: too few items for an interval"
        )
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def widest_gap(values: np.ndarray, draws: np.ndarray, level: float = LEVEL) -> Score:
    """Distance of the best and the worst of some values, allowing for how they were chosen.

    The pair was chosen because it is far apart, so the interval of that pair alone would claim a
    gap among equal values far too often. Instead every pair's error is taken, in its own
    standard errors, and the interval spans the level of the largest of them (bootstrap max-t, as
    Tukey's range test; Westfall and Young 1993).

    Args:
        values: (g,) in order, g at least 2.
        draws: (r, g) the same on resamples, nan where undefined.
        level: of the interval.

    Returns:
        The distance of the first and the last value; its interval may reach below 0.
    """
    largest, deviation = np.zeros(len(draws)), 0.0
    for first in range(len(values) - 1):
        others = draws[:, [first]] - draws[:, first + 1 :]
        deviations = np.nanstd(others, axis=0)
        errors = np.abs(others - (values[first] - values[first + 1 :]))
        # Rounding alone has no standard error. A resample without one pair is without all.
        errors = np.where(deviations > 1e-12, errors / np.maximum(deviations, 1e-12), 0.0)
        largest = np.maximum(largest, errors.max(axis=1))
        deviation = deviation if first else float(deviations[-1])
    middle = float(abs(values[0] - values[-1]))
    half = float(np.nanquantile(largest, level)) * deviation
    return Score(middle, middle - half, middle + half)


def score_items(statistic: Callable[..., float], arrays: Sequence[np.ndarray]) -> Score:
    """Value and 95 % bootstrap interval (1,000 resamples, seed 0) of any statistic of items.

    Args:
        statistic: arrays of n items -> a float.
        arrays: of n items each, along the first axis.

    Raises:
        UserError: the arrays differ in length, or the statistic is undefined.
    """
    _items(arrays)
    return Score(float(statistic(*arrays)), *interval(resampled_items(statistic, arrays)))


def _items(arrays: Sequence[np.ndarray]) -> int:
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        raise UserError(f"arrays of the same test items have lengths {sorted(lengths)}")
    return lengths.pop()
