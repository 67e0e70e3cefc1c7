"""What the methods on frozen features share: labels column by column, and an inner validation."""

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.model_selection import KFold, StratifiedKFold

from biofm_jax.array_types import typed
from biofm_jax.errors import UserError

Kind = Literal["number", "binary", "class", "residue"]
Rows = tuple[np.ndarray, np.ndarray]  # (n, d) features, (n,) labels without gaps

# With fewer labels than this a validation part orders candidates by luck.
FEWEST_VALIDATION_LABELS = 20
FOLDS = 5


@typed
def by_column(
    features_train: Float[np.ndarray, "n d"],
    y_train: Float[np.ndarray, "n k"],
    features_valid: Float[np.ndarray, "v d"],
    y_valid: Float[np.ndarray, "v k"],
    features_test: Float[np.ndarray, "m d"],
    fit: Callable[[Rows, Rows, np.ndarray], np.ndarray],
) -> Float[np.ndarray, "m k"]:
    """Predict every label column on its own, from the rows where it is not missing.

    Args:
        features_train: (n, d) features of the training items.
        y_train: (n, k) labels, nan = missing.
        features_valid: (v, d), v may be 0.
        y_valid: (v, k).
        features_test: (m, d).
        fit: training rows, validation rows, (m, d) float64 test features -> (m,) predictions.

    Returns:
        (m, k) predictions.

    Raises:
        UserError: features are not finite, or a column has no training label.
    """
    for part, features in (
        ("training", features_train),
        ("validation", features_valid),
        ("test", features_test),
    ):
        if not np.isfinite(features).all():
            row = int(np.argwhere(~np.isfinite(features))[0, 0])
            raise UserError(f"the features of {part} item {row} are not finite")
    columns = [
        fit(
            _labelled(features_train, y_train[:, column], column),
            _labelled(features_valid, y_valid[:, column]),
            features_test.astype(np.float64),
        )
        for column in range(y_train.shape[1])
    ]
    return np.stack(columns, axis=1)


def _labelled(features, labels, column=None) -> Rows:
    """The rows that have a label; `column` names a column that must have one."""
    have = ~np.isnan(labels)
    if column is not None and not have.any():
        raise UserError(f"label column {column} has no label in the training part")
    return features[have].astype(np.float64), labels[have]


def choose(
    train: Rows,
    valid: Rows,
    kind: Kind,
    guesses: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    candidates: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Choose among candidates by the loss (squared error, log loss) on the validation labels.

    A validation part too small to choose on joins the training rows, and the candidate comes
    from a 5-fold cross-validation of those; where that says nothing (a single label of all
    classes but one, two numbers), it is the middle one. Of equals the first is taken.
    Deterministic.

    Args:
        train: rows to fit.
        valid: rows to choose on, maybe none.
        kind: of the label.
        guesses: (n, d) features, (n,) labels (two classes or more, if not numbers), (m, d)
            features -> predictions of each candidate: (candidates, m) values, or probabilities
            of 1, or (candidates, m, c) probabilities of the c classes of these labels, ascending.
        candidates: how many there are.

    Returns:
        Features and labels of the rows to fit in the end, and the chosen candidate.
    """

    def losses(x, y, x_valid, y_valid) -> np.ndarray:
        if len(np.unique(y)) == 1:
            return np.zeros(candidates)
        guessed = guesses(x, y, x_valid)
        if kind == "number":
            return np.mean((guessed - y_valid) ** 2, axis=1)
        if kind == "class":  # one that was not fitted has no probability
            right = (guessed * (y_valid[:, None] == np.unique(y))).sum(-1)
        else:
            right = np.where(y_valid == 1, guessed, 1 - guessed)
        return -np.mean(np.log(np.clip(right, 1e-12, 1)), axis=1)

    x, y = train
    enough = len(valid[1]) >= FEWEST_VALIDATION_LABELS
    # A log loss on one class only would reward the most extreme fit.
    if enough and (kind == "number" or len(np.unique(valid[1])) > 1):
        return x, y, _least(losses(x, y, *valid))
    x, y = np.concatenate([x, valid[0]]), np.concatenate([y, valid[1]])
    # Every fit needs two classes: so many parts as the second largest class has labels.
    most = len(y) if kind == "number" else int(np.sort(np.unique_counts(y).counts)[-2:][0])
    folds = min(FOLDS, most)
    if folds < 2:
        return x, y, candidates // 2
    split = KFold if kind == "number" else StratifiedKFold
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = list(split(folds, shuffle=True, random_state=0).split(x, y))
    total = np.sum([len(b) * losses(x[a], y[a], x[b], y[b]) for a, b in parts], axis=0)
    return x, y, _least(total)


def most_likely(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(m,) the class with the highest probability, of equals the one with the lowest number.

    Args:
        labels: (n,) class numbers that were fitted, c different ones.
        probabilities: (m, c), in ascending order of class numbers.
    """
    return np.unique(labels)[probabilities.argmax(-1)]


def _least(losses: np.ndarray) -> int:
    """The first of the smallest; the middle one where all are the same."""
    return int(np.argmin(losses)) if np.ptp(losses) > 0 else len(losses) // 2
