"""The paired permutation test: the two predictions of an item change places."""

import math

import numpy as np
from scipy import stats

from biofm_jax.evaluate.contestants import Contestant
from biofm_jax.evaluate.metrics import METRICS, label_columns, metric_value

DRAWS = 2000
_CELLS = 1_000_000  # items x draws held at once: 8 MB an array
_SAME = 1e-10  # relative; differences below it are rounding


def permutation_test(
    one: Contestant, other: Contestant, metric: str, draws: int = DRAWS, seed: int = 0
) -> tuple[float, bool]:
    """Whether the difference could be chance: the two predictions of items change places.

    Under the null hypothesis it does not matter which method made which of the two predictions
    of an item. All labels and seeds of an item change places together; where one method has
    fewer seeds, its own are repeated. Predictions come onto a common scale first, where the
    metric allows it: their ranks if it reads only the order (as Venkatraman and Begg,
    Biometrika 83:835, 1996, for ROC curves), their standard scores if it reads no scale. Where
    all permutations are no more than `draws` they are enumerated; otherwise
    p = (1 + count) / (1 + draws) (Phipson and Smyth, 2010, arXiv 1603.05766).

    Returns:
        The two-sided p value, and whether it is exact. The smallest is 1 / (1 + draws).
    """
    pairs = math.lcm(len(one.predicted), len(other.predicted))
    a, b = (
        np.resize(guess, (pairs, *guess.shape[1:]))
        for guess in _common_scale(metric, one.truth, one.predicted, other.predicted)
    )
    # Items with equal predictions have nothing to swap.
    swappable = np.flatnonzero((a != b).any((0, 2)))
    exact = len(swappable) < 60 and 2 ** len(swappable) <= draws
    total = 2 ** len(swappable) if exact else draws
    rng = np.random.default_rng(seed)
    n = len(one.ids)
    rows = max(1, _CELLS // (2 * n))
    value_one, value_other = _swapped(metric, one.truth, a, b, np.zeros((1, n), bool))[:, 0]
    # Sums in another order differ by rounding: a tie counts as large.
    margin = _SAME * max(abs(value_one), abs(value_other))
    least = abs(value_one - value_other) - margin
    count = 0
    for start in range(0, total, rows):
        block = np.arange(start, min(start + rows, total))
        swaps = np.zeros((len(block), n), bool)
        if exact:
            swaps[:, swappable] = block[:, None] >> np.arange(len(swappable)) & 1
        else:
            swaps[:, swappable] = rng.random((len(block), len(swappable))) < 0.5
        drawn_one, drawn_other = _swapped(metric, one.truth, a, b, swaps)
        # Not "at least as large": an undefined permutation counts against a finding.
        count += np.count_nonzero(~(np.abs(drawn_one - drawn_other) < least))
    return float(count / total if exact else (1 + count) / (1 + draws)), exact


def _swapped(metric, truth, a, b, swaps) -> np.ndarray:
    """(2, r) the metric of both methods, with the items of each (r, n) row swapped.

    Means over seeds and columns. Each method's swapped predictions are some of the 2n of both,
    which is what the resampled form of a metric reads: how often each of some items was drawn.
    """
    take = np.concatenate([~swaps, swaps], axis=1).astype(float)
    values = []
    for guess_a, guess_b in zip(a, b):
        for have, column in label_columns(metric, truth):
            both = np.concatenate([guess_a[have, column], guess_b[have, column]])
            labels, places = (np.concatenate([one, one]) for one in (truth[have, column], have))
            block = METRICS[metric].block
            values.append([block(labels, both, t[:, places]) for t in (take, 1 - take)])
    return np.mean(values, axis=0)


def without_rounding(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """one - other, 0 where the two are equal but for rounding."""
    same = np.abs(one - other) <= _SAME * np.maximum(np.abs(one), np.abs(other))
    return np.where(same, 0.0, one - other)


def _common_scale(metric, truth, *predicted) -> list[np.ndarray]:
    """(s, n, k) predictions as ranks or standard scores where the metric stays the same."""
    if METRICS[metric].classes:
        return list(predicted)
    for rescale in (_ranks, _standard_scores):
        scaled = [np.stack([rescale(truth, guess) for guess in given]) for given in predicted]
        if all(
            _unchanged(metric, truth, guess, new)
            for given, news in zip(predicted, scaled)
            for guess, new in zip(given, news)
        ):
            return scaled
    return list(predicted)


def _unchanged(metric, truth, guess, new) -> bool:
    want = metric_value(metric, truth, guess)
    try:
        return math.isclose(metric_value(metric, truth, new), want, rel_tol=1e-9, abs_tol=1e-12)
    except ValueError:  # such as a score outside 0 to 1
        return False


def _ranks(truth, guess) -> np.ndarray:
    """Ranks among the labelled items, in 0 to 1."""
    ranks = np.full_like(guess, 0.5)
    for column, have in enumerate(~np.isnan(truth.T)):
        ranks[have, column] = stats.rankdata(guess[have, column]) / (have.sum() + 1)
    return ranks


def _standard_scores(truth, guess) -> np.ndarray:
    known = np.where(np.isnan(truth), np.nan, guess)
    spread = np.nanstd(known, axis=0)
    return (guess - np.nanmean(known, axis=0)) / np.where(spread > 0, spread, 1.0)
