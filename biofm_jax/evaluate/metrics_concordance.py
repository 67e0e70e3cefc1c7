"""Concordance of predicted with measured numbers, as published for drug-target affinity.

    C = sum over pairs with y_i > y_j of h(f_i - f_j) / number of such pairs

with h(x) = 1 for x > 0, 1/2 for x = 0, 0 for x < 0 (Gonen and Heller 2005; Pahikkala et al. 2015,
doi 10.1093/bib/bbu010, equation 2; so in DeepDTA and GraphDTA). Pairs of equal truth do not count.
It is Harrell's C-index (`metrics_survival`) without censoring, in n log n time.
"""

import numpy as np

from biofm_jax.errors import UserError


def cindex(truth: np.ndarray, guess: np.ndarray) -> float:
    """The C-index of (n,) predictions; 0.5 for a constant one.

    Raises:
        UserError: all true values are equal.
    """
    value = float(cindex_block(truth, guess, np.ones((1, len(truth))))[0])
    if np.isnan(value):
        raise UserError("every true value is the same: no two items can be compared")
    return value


def cindex_block(truth: np.ndarray, guess: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(r,) C-indices under (r, n) counts; nan where no pair can be compared.

    Items are put in the order of truth, and of prediction where that is equal; then blocks of
    doubled size are merged as in a merge sort, which depends on no counts: each merge weighs the
    items of the upper half by the counts in the lower half that are predicted below them, ties by
    half. Pairs of equal truth, which the merges count too, are subtracted in closed form.
    """
    order = np.lexsort((guess, truth))
    truth, guess, counts = truth[order], guess[order], counts[:, order]
    n = len(truth)
    rank = np.unique(guess, return_inverse=True)[1]
    won, size, by_item = np.zeros(len(counts)), 1, np.ascontiguousarray(counts.T)
    while size < n:
        won += _merged(rank, by_item, size)
        size *= 2
    totals = _pairs(counts, np.zeros(n, np.int64))
    level = np.unique(truth, return_inverse=True)[1]
    # In the order above a pair of equal truth is won, or tied where the predictions are equal.
    equal = _pairs(counts, level)
    tied = _pairs(counts, level * n + rank)
    compared = totals - equal
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(compared > 0, (won - (equal - tied / 2)) / compared, np.nan)


def _merged(rank: np.ndarray, counts: np.ndarray, size: int) -> np.ndarray:
    """(r,) what the upper halves of all blocks of 2 x `size` items win of the lower halves.

    Args:
        rank: (n,) places of the predictions, equal where they are.
        counts: (n, r).
        size: of a half.
    """
    place = np.arange(len(rank))
    block, upper = place // (2 * size), (place // size) % 2 == 1
    order = np.lexsort((rank, block))
    lower = order[~upper[order]]
    below = np.zeros((len(lower) + 1, counts.shape[1]))  # lower halves alone
    np.cumsum(counts[lower], axis=0, out=below[1:])
    asked = order[upper[order]]
    lower_key = block[lower] * (len(rank) + 1) + rank[lower]
    asked_key = block[asked] * (len(rank) + 1) + rank[asked]
    first = np.searchsorted(lower_key, asked_key)
    last = np.searchsorted(lower_key, asked_key, "right")
    start = np.searchsorted(block[lower], block[asked])
    wins = (below[first] + below[last]) / 2 - below[start]
    return np.einsum("nr,nr->r", wins, counts[asked])


def _pairs(counts: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(r,) weight of all pairs of two different items of one group."""
    numbers, group = np.unique(group, return_inverse=True)
    if len(numbers) == 1:
        sums, squares = counts.sum(1), (counts**2).sum(1)
        return (sums**2 - squares) / 2
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(numbers)))
    sums = np.add.reduceat(counts[:, order], starts, axis=1)
    return ((sums**2).sum(1) - (counts**2).sum(1)) / 2
