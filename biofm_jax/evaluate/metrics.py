"""Metrics by name, with a direction and a bootstrap interval over test items.

Every metric takes (n, k) truths with nan for missing labels and (n, k) predictions, is computed
on each label column over the rows where its label is known, and averaged over columns. Labels
along a sequence (`residue`) are one row an item and judged together: the items that are drawn
again are sequences, since residues of one sequence are alike.
A second form of each metric works on a whole block of bootstrap resamples at once, given how
often each resample drew each item. Metrics of other inputs (texts, masks, forecasts, survival)
are in `item_metrics`.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn import metrics as sklearn_metrics

from biofm_jax.array_types import typed
from biofm_jax.errors import UserError
from biofm_jax.evaluate import metrics_class as classes
from biofm_jax.evaluate import metrics_concordance as concordance
from biofm_jax.evaluate import metrics_number as numbers
from biofm_jax.evaluate import metrics_probability as probabilities
from biofm_jax.evaluate import metrics_residue as residues
from biofm_jax.evaluate.bootstrap import LEVEL, RESAMPLES, Score, interval, resampled_counts

__all__ = [
    "LEVEL",
    "METRICS",
    "RESAMPLES",
    "Metric",
    "Score",
    "interval",
    "label_columns",
    "metric_block",
    "metric_value",
    "resampled",
    "score",
]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of one label column.

    Attributes:
        name: as written in tasks and results.
        label: as printed.
        direction: whether "higher" or "lower" values are better.
        kind: "number" (a predicted value), "binary" (a score for a 0/1 label; Brier and ECE
            want the probability of 1), "class" (a predicted class number) or "residue" (a row of
            class numbers along a sequence).
        point: (n,) truth, (n,) prediction -> float; of residues both are (n, k).
        block: the same two, (r, n) counts -> (r,) values, nan where undefined.
    """

    name: str
    label: str
    direction: Literal["higher", "lower"]
    kind: Literal["number", "binary", "class", "residue"]
    point: Callable
    block: Callable

    @property
    def classes(self) -> bool:
        """Whether labels and predictions are class numbers, without probabilities."""
        return self.kind in ("class", "residue")


_ROWS = (
    ("spearman", "Spearman", "higher", "number", numbers.spearman, numbers.spearman_block),
    ("pearson", "Pearson", "higher", "number", numbers.pearson, numbers.pearson_block),
    ("auroc", "ROC-AUC", "higher", "binary", classes.auroc, classes.auroc_block),
    ("auprc", "PR-AUC", "higher", "binary", classes.auprc, classes.auprc_block),
    (
        "rmse",
        "RMSE",
        "lower",
        "number",
        sklearn_metrics.root_mean_squared_error,
        numbers.rmse_block,
    ),
    ("mse", "MSE", "lower", "number", sklearn_metrics.mean_squared_error, numbers.mse_block),
    ("cindex", "C-index", "higher", "number", concordance.cindex, concordance.cindex_block),
    ("mae", "MAE", "lower", "number", sklearn_metrics.mean_absolute_error, numbers.mae_block),
    ("r2", "R2", "higher", "number", numbers.r2, numbers.r2_block),
    (
        "accuracy",
        "accuracy",
        "higher",
        "class",
        sklearn_metrics.accuracy_score,
        classes.accuracy_block,
    ),
    ("mcc", "MCC", "higher", "class", classes.mcc, classes.mcc_block),
    ("f1", "F1 (macro)", "higher", "class", classes.f1, classes.f1_block),
    ("brier", "Brier", "lower", "binary", probabilities.brier, probabilities.brier_block),
    ("ece", "ECE", "lower", "binary", probabilities.ece, probabilities.ece_block),
    (
        "residue_accuracy",
        "residue accuracy",
        "higher",
        "residue",
        residues.residue_accuracy,
        residues.residue_accuracy_block,
    ),
)
METRICS = {row[0]: Metric(*row) for row in _ROWS}


def label_columns(name: str, truth: np.ndarray) -> list[tuple[np.ndarray, int | slice]]:
    """The columns a metric is computed on one by one, and the (n,) rows with a label in each.

    The labels along a sequence belong together: they are one column, a slice of them all.
    """
    known = ~np.isnan(truth)
    if METRICS[name].kind == "residue":
        return [(known.any(1), slice(None))]
    return [(known[:, column], column) for column in range(truth.shape[1])]


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
    _check(name, truth, predicted)
    values = []
    for have, column in label_columns(name, truth):
        try:
            values.append(METRICS[name].point(truth[have, column], predicted[have, column]))
        except UserError as error:
            where = f"label column {column}: " if isinstance(column, int) else ""
            raise UserError(f"{where}{error}") from error
    return float(np.mean(values))


@typed
def metric_block(
    name: str,
    truth: Float[np.ndarray, "n k"],
    predicted: Float[np.ndarray, "n k"],
    counts: Float[np.ndarray, "r n"],
) -> Float[np.ndarray, "r"]:
    """The metric on r resamples, given how often each drew each item.

    A resample in which a column's metric is undefined (a single class) leaves that column out
    of its mean, and is nan if no column is left.
    """
    per_column = []
    for have, column in label_columns(name, truth):
        per_column.append(
            METRICS[name].block(truth[have, column], predicted[have, column], counts[:, have])
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no column is nan
        return np.nanmean(per_column, axis=0)


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
    """
    _check(name, truth, predicted)
    return resampled_counts(
        lambda counts: metric_block(name, truth, predicted, counts), len(truth), resamples, seed
    )


def score(name: str, truth: np.ndarray, predicted: np.ndarray) -> Score:
    """Value and 95 % bootstrap interval (1,000 resamples, seed 0) of a metric; see above."""
    value = metric_value(name, truth, predicted)
    return Score(value, *interval(resampled(name, truth, predicted)))


def _check(name, truth, predicted) -> None:
    if not np.isfinite(predicted).all():
        row = int(np.argwhere(~np.isfinite(predicted))[0, 0])
        raise UserError(f"the prediction of test item {row} is not finite")
    for have, column in label_columns(name, truth):
        if not have.any():
            what = f"label column {column} has" if isinstance(column, int) else "there is"
            raise UserError(f"{what} no label among the test items")
