"""Metrics by name, with a direction and a bootstrap interval over test items.

Every metric takes (n, k) truths with nan for missing labels and (n, k) predictions, is computed
on each label column over the rows where its label is known, and averaged over columns.
A second form of each metric works on a whole block of bootstrap resamples at once, given how
often each resample drew each item: ranks are computed from cumulated counts, not by sorting.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats
from sklearn import metrics as sklearn_metrics

from biofm_jax.array_types import typed
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


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of one label column.

    Attributes:
        name: as written in tasks and results.
        label: as printed.
        direction: whether "higher" or "lower" values are better.
        kind: "number" (a predicted value), "binary" (a score for a 0/1 label) or "class" (a
            predicted class number).
        point: (n,) truth, (n,) prediction -> float.
        block: (n,) truth, (n,) prediction, (r, n) counts -> (r,) values, nan where undefined.
    """

    name: str
    label: str
    direction: Literal["higher", "lower"]
    kind: Literal["number", "binary", "class"]
    point: Callable
    block: Callable


def _mean(values, counts):
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts @ values / counts.sum(1)


def _moments(x, y, counts):
    """Weighted covariance and variances of (r, n) or (n,) values, each (r,)."""
    n = counts.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = x - (counts * x).sum(1, keepdims=True) / n
        y = y - (counts * y).sum(1, keepdims=True) / n
    return (counts * x * y).sum(1), (counts * x * x).sum(1), (counts * y * y).sum(1)


def _correlation_block(truth, guess, counts):
    both, one, two = _moments(truth, guess, counts)
    flat = two <= 1e-24 * np.maximum(one, 1e-300)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flat & (one > 0), 0.0, both / np.sqrt(one * two))


def _grouped(values):
    """Order of the items, starts of runs of equal values in it, and each item's run."""
    _, run, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.argsort(values, kind="stable"), np.r_[0, np.cumsum(sizes)[:-1]], run


def _ranks_block(values, counts):
    """(r, n) mid-ranks of the items within each resample."""
    order, starts, run = _grouped(values)
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - sizes + (sizes + 1) / 2)[:, run]


def _spearman_block(truth, guess, counts):
    return _correlation_block(_ranks_block(truth, counts), _ranks_block(guess, counts), counts)


def _auroc_block(truth, guess, counts):
    order, starts, _ = _grouped(guess)
    ones = np.add.reduceat((counts * (truth == 1))[:, order], starts, axis=1)
    zeros = np.add.reduceat((counts * (truth != 1))[:, order], starts, axis=1)
    # A pair counts one if the positive scores higher, a half at equal scores.
    won = (ones * (np.cumsum(zeros, axis=1) - zeros / 2)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return won / (ones.sum(1) * zeros.sum(1))


def _r2_block(truth, guess, counts):
    _, total, _ = _moments(truth, truth, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, 1 - counts @ (truth - guess) ** 2 / total, np.nan)


def _correlation(function):
    def point(truth, guess):
        if np.ptp(truth) == 0:
            raise UserError("every true value is the same: a correlation is undefined")
        if np.ptp(guess) == 0:  # a constant prediction orders nothing
            return 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.NearConstantInputWarning)
            return float(function(truth, guess).statistic)

    return point


def _auroc(truth, guess):
    classes = np.unique(truth)
    if not np.isin(classes, (0, 1)).all():
        raise UserError(f"AUROC wants labels 0 and 1, not {classes[:5].tolist()}")
    if len(classes) < 2:
        raise UserError(
            f"AUROC needs both classes among the test items: all {len(truth)} labels are "
            f"{classes[0]:g}"
        )
    return float(sklearn_metrics.roc_auc_score(truth, guess))


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "spearman",
            "Spearman",
            "higher",
            "number",
            _correlation(stats.spearmanr),
            _spearman_block,
        ),
        Metric(
            "pearson",
            "Pearson",
            "higher",
            "number",
            _correlation(stats.pearsonr),
            _correlation_block,
        ),
        Metric("auroc", "ROC-AUC", "higher", "binary", _auroc, _auroc_block),
        Metric(
            "rmse",
            "RMSE",
            "lower",
            "number",
            sklearn_metrics.root_mean_squared_error,
            lambda truth, guess, counts: np.sqrt(_mean((truth - guess) ** 2, counts)),
        ),
        Metric(
            "mae",
            "MAE",
            "lower",
            "number",
            sklearn_metrics.mean_absolute_error,
            lambda truth, guess, counts: _mean(np.abs(truth - guess), counts),
        ),
        Metric("r2", "R2", "higher", "number", sklearn_metrics.r2_score, _r2_block),
        Metric(
            "accuracy",
            "accuracy",
            "higher",
            "class",
            sklearn_metrics.accuracy_score,
            lambda truth, guess, counts: _mean((truth == guess).astype(float), counts),
        ),
    )
}


@typed
def metric_value(
    name: str, truth: Float[np.ndarray, "n k"], predicted: Float[np.ndarray, "n k"]
) -> float:
    """The metric, averaged over label columns.

    Args:
        name: a key of `METRICS`.
        truth: (n, k) labels, nan = missing.
        predicted: (n, k) predictions.

    Raises:
        UserError: a prediction is not finite, a column has no label, or the labels of a column
            leave the metric undefined (one class only, all values equal).
    """
    _check(truth, predicted)
    values = []
    for column in range(truth.shape[1]):
        have = ~np.isnan(truth[:, column])
        try:
            values.append(METRICS[name].point(truth[have, column], predicted[have, column]))
        except UserError as error:
            raise UserError(f"label column {column}: {error}") from error
    return float(np.mean(values))


@typed
def resampled(
    name: str,
    truth: Float[np.ndarray, "n k"],
    predicted: Float[np.ndarray, "n k"],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "r"]:
    """The metric on test items drawn again with replacement.

    The draws depend only on n and `seed`: two models on the same items see the same resamples.
    A resample in which a column's metric is undefined (a single class) leaves that column out
    of its mean, and is nan if no column is left.
    """
    _check(truth, predicted)
    n, columns = truth.shape
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // n)
    values = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
        per_column = []
        for column in range(columns):
            have = ~np.isnan(truth[:, column])
            per_column.append(
                METRICS[name].block(truth[have, column], predicted[have, column], counts[:, have])
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no column is nan
            values.append(np.nanmean(per_column, axis=0))
    return np.concatenate(values)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The central percentile interval of resampled values; nan resamples are left out."""
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def score(name: str, truth: np.ndarray, predicted: np.ndarray) -> Score:
    """Value and 95 % bootstrap interval (1,000 resamples, seed 0) of a metric; see above."""
    value = metric_value(name, truth, predicted)
    return Score(value, *interval(resampled(name, truth, predicted)))


def _check(truth, predicted) -> None:
    if not np.isfinite(predicted).all():
        row = int(np.argwhere(~np.isfinite(predicted))[0, 0])
        raise UserError(f"the prediction of test item {row} is not finite")
    for column in np.flatnonzero(np.isnan(truth).all(0)):
        raise UserError(f"label column {column} has no label among the test items")
