"""Metrics of scores for a 0/1 label (AUROC, AUPRC) and of class numbers (MCC, F1, accuracy).

Point and block forms as in `metrics_number`.
"""

import numpy as np
from sklearn import metrics as sklearn_metrics

from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics_number import grouped, weighted_mean


def auroc(truth, guess) -> float:
    """Chance that a 1 scores higher than a 0, equal scores counting a half.

    Raises:
        UserError: labels are not 0 and 1, or all are the same.
    """
    _both_classes("AUROC", truth)
    return float(sklearn_metrics.roc_auc_score(truth, guess))


def auroc_block(truth, guess, counts):
    """(r,) areas; nan where a resample has one class."""
    ones, zeros = _ones_and_zeros(truth, guess, counts)
    won = (ones * (np.cumsum(zeros, axis=1) - zeros / 2)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return won / (ones.sum(1) * zeros.sum(1))


def auprc(truth, guess) -> float:
    """Average precision: the step-wise area under precision over recall, without interpolation.

    A guess at random gives the share of ones, not a half: read it beside that share.

    Raises:
        UserError: labels are not 0 and 1, or all are the same.
    """
    _both_classes("AUPRC", truth)
    return float(sklearn_metrics.average_precision_score(truth, guess))


def auprc_block(truth, guess, counts):
    """(r,) average precisions; nan where a resample has one class."""
    ones, zeros = _ones_and_zeros(truth, -guess, counts)
    found = np.cumsum(ones, axis=1)
    precision = found / np.maximum(found + np.cumsum(zeros, axis=1), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (ones * precision).sum(1) / ones.sum(1)
    return np.where(zeros.sum(1) > 0, area, np.nan)


def decided(probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Probabilities as the classes 0.0 and 1.0, for MCC, F1 and accuracy.

    A threshold other than a half must come from validation items, never from test items.
    """
    return (probability >= threshold).astype(float)


def mcc(truth, guess) -> float:
    """Matthews correlation of two or more classes (Gorodkin 2004); 0 for one predicted class.

    Raises:
        UserError: all true classes are the same.
    """
    if len(np.unique(truth)) < 2:
        raise UserError("every true class is the same: a correlation is undefined")
    return float(sklearn_metrics.matthews_corrcoef(truth, guess))


def mcc_block(truth, guess, counts):
    """(r,) Matthews correlations; nan where a resample has one true class."""
    _, true, said = _class_counts(truth, guess, counts)
    n = counts.sum(1)
    both = n * (counts @ (truth == guess)) - (true * said).sum(1)
    one, two = n**2 - (true**2).sum(1), n**2 - (said**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(two > 0, both / np.sqrt(one * two), 0.0)
    return np.where(one > 0, value, np.nan)


def f1(truth, guess) -> float:
    """F1 of each class that is true or predicted somewhere, averaged with equal weight."""
    return float(sklearn_metrics.f1_score(truth, guess, average="macro", zero_division=0))


def f1_block(truth, guess, counts):
    """(r,) macro F1 over the classes of each resample."""
    right, true, said = _class_counts(truth, guess, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = 2 * right / np.maximum(true + said, 1)
        return each.sum(1) / (true + said > 0).sum(1)


def accuracy_block(truth, guess, counts):
    """(r,) shares of right classes."""
    return weighted_mean((truth == guess).astype(float), counts)


def _ones_and_zeros(truth, guess, counts):
    """(r, g) drawn ones and zeros at each distinct score, from the lowest."""
    order, starts, _ = grouped(guess)
    ones = np.add.reduceat((counts * (truth == 1))[:, order], starts, axis=1)
    zeros = np.add.reduceat((counts * (truth != 1))[:, order], starts, axis=1)
    return ones, zeros


def _class_counts(truth, guess, counts):
    """(r, c) drawn items of each class: right, true, predicted."""
    classes = np.union1d(truth, guess)
    true = (truth[:, None] == classes).astype(float)
    said = (guess[:, None] == classes).astype(float)
    return counts @ (true * said), counts @ true, counts @ said


def zero_or_one(name, truth):
    """The distinct labels, checked to be 0 and 1 alone."""
    classes = np.unique(truth)
    if not np.isin(classes, (0, 1)).all():
        raise UserError(f"{name} wants labels 0 and 1, not {classes[:5].tolist()}")
    return classes


def _both_classes(name, truth) -> None:
    classes = zero_or_one(name, truth)
    if len(classes) < 2:
        raise UserError(
            f"{name} needs both classes among the test items: all {len(truth)} labels are "
            f"{classes[0]:g}"
        )
