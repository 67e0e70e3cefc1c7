"""Metrics of predicted numbers: correlations, squared and absolute error, R2.

Each has a point form, (n,) truth and prediction -> float, and a block form that takes (r, n)
counts of how often each of r resamples drew each item -> (r,), nan where undefined. Ranks of a
block are computed from cumulated counts, not by sorting again.
"""

import warnings

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

from biofm_jax.errors import UserError

_ROUNDING = 1e-14  # of a float64 mean, relative


def weighted_mean(values, counts):
    """(r,) means of (n,) values under (r, n) counts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts @ values / counts.sum(1)


def grouped(values):
    """Order of the items, starts of runs of equal values in it, and each item's run."""
    _, run, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.argsort(values, kind="stable"), np.r_[0, np.cumsum(sizes)[:-1]], run


def spearman(truth, guess) -> float:
    """Rank correlation, ties at mid-ranks; 0 for a constant prediction, which orders nothing.

    Raises:
        UserError: all true values are equal.
    """
    return _correlation(stats.spearmanr, truth, guess)


def pearson(truth, guess) -> float:
    """Linear correlation; 0 for a constant prediction.

    Raises:
        UserError: all true values are equal.
    """
    return _correlation(stats.pearsonr, truth, guess)


def pearson_block(truth, guess, counts):
    """(r,) linear correlations."""
    both, one, two = _moments(truth, guess, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((two == 0) & (one > 0), 0.0, both / np.sqrt(one * two))


def spearman_block(truth, guess, counts):
    """(r,) rank correlations."""
    return pearson_block(_ranks_block(truth, counts), _ranks_block(guess, counts), counts)


def rmse_block(truth, guess, counts):
    """(r,) roots of the mean squared error."""
    return np.sqrt(mse_block(truth, guess, counts))


def mse_block(truth, guess, counts):
    """(r,) mean squared errors."""
    return weighted_mean((truth - guess) ** 2, counts)


def mae_block(truth, guess, counts):
    """(r,) mean absolute errors."""
    return weighted_mean(np.abs(truth - guess), counts)


def r2(truth, guess) -> float:
    """Share of variance explained.

    Raises:
        UserError: all true values are equal.
    """
    if np.ptp(truth) == 0:
        raise UserError("every true value is the same: there is no variance to explain")
    return float(sklearn_metrics.r2_score(truth, guess))


def r2_block(truth, guess, counts):
    """(r,) shares of variance explained."""
    _, total, _ = _moments(truth, truth, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, 1 - counts @ (truth - guess) ** 2 / total, np.nan)


def _correlation(function, truth, guess) -> float:
    if np.ptp(truth) == 0:
        raise UserError("every true value is the same: a correlation is undefined")
    if np.ptp(guess) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(function(truth, guess).statistic)


def _moments(x, y, counts):
    """Weighted covariance and variances of (r, n) or (n,) values, each (r,)."""
    n = counts.sum(1, keepdims=True)

    def centred(values):
        with np.errstate(invalid="ignore", divide="ignore"):
            return values - (counts * values).sum(1, keepdims=True) / n

    def variance(values, middle):
        found = (counts * middle**2).sum(1)
        # Equal values leave rounding behind, not zero.
        return np.where(found <= _ROUNDING**2 * (counts * values**2).sum(1), 0.0, found)

    x_middle, y_middle = centred(x), centred(y)
    return (counts * x_middle * y_middle).sum(1), variance(x, x_middle), variance(y, y_middle)


def _ranks_block(values, counts):
    """(r, n) mid-ranks of the items within each resample."""
    order, starts, run = grouped(values)
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2)[:, run]
