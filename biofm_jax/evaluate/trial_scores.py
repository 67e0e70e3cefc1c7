"""Scores of predicted trial outcomes, one set for all methods, and HINT's released predictions."""

import gzip
from pathlib import Path

import numpy as np
from jaxtyping import Float
from sklearn.metrics import f1_score

from biofm_jax.errors import UserError
from biofm_jax.evaluate.labels import numbers, read_columns
from biofm_jax.evaluate.metrics import metric_value
from biofm_jax.evaluate.metrics_class import decided
from biofm_jax.evaluate.selective import risk_coverage
from biofm_jax.evaluate.task import Dataset, data_file

RELEASED = "drug/trial_outcome_phase1/HINT_released_predictions_phase_I_test.csv.gz"


def released_predictions(root: Path | None, data: Dataset) -> Float[np.ndarray, " n"]:
    """What HINT's authors predicted for the tested trials of `trial/phase1`, in their order.

    Args:
        root: of the data sets; None: that of `BIOFM_DATA`.
        data: of the task.

    Raises:
        UserError: the file is missing, or is of other trials.
    """
    path = data_file(root, RELEASED)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        names, cells = read_columns(lines, str(path), ("nctid", "prediction"))
    found = dict(zip(names, numbers(cells, str(path), "prediction")))
    if missing := [name for name in data.tested.ids if name not in found]:
        raise UserError(f"{path} has no prediction of {missing[0]} and {len(missing) - 1} others")
    return np.array([found[name] for name in data.tested.ids])


def success_scores(
    truth: Float[np.ndarray, " n"], probability: Float[np.ndarray, " n"]
) -> dict[str, float]:
    """ROC-AUC, PR-AUC, F1 of success (at a half), accuracy, ECE and the area of risk by coverage.

    Args:
        truth: (n,) 1 for success.
        probability: (n,) of success.
    """
    pair = truth[:, None], probability[:, None]
    said = decided(probability)
    return {
        "ROC-AUC": metric_value("auroc", *pair),
        "PR-AUC": metric_value("auprc", *pair),
        "F1": float(f1_score(truth, said)),
        "accuracy": float((truth == said).mean()),
        "ECE": metric_value("ece", *pair),
        "risk area": risk_coverage(truth, probability).area,
    }
