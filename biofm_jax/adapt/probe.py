"""Linear probes: ridge or logistic regression on frozen features."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.array_types import typed
from biofm_jax.errors import UserError

Kind = Literal["number", "binary"]
Features = Callable[[Sequence[str]], np.ndarray]

# Penalties for standardised features, half a decade apart. Ridge's grows with the number of
# rows, so the upper end has to reach "predict the mean" on thousands of them.
STRENGTHS = {"number": np.logspace(-2, 6, 17), "binary": np.logspace(-4, 2, 13)}
# With fewer labels than this a validation part orders penalties by luck.
FEWEST_VALIDATION_LABELS = 20
FOLDS = 5


@typed
def probe(
    features_train: Float[np.ndarray, "n d"],
    y_train: Float[np.ndarray, "n k"],
    features_valid: Float[np.ndarray, "v d"],
    y_valid: Float[np.ndarray, "v k"],
    features_test: Float[np.ndarray, "m d"],
    kind: Kind,
) -> Float[np.ndarray, "m k"]:
    """Fit a linear model on frozen features and predict the test items.

    Features are standardised by the mean and deviation of the rows that are fitted. Every label
    column is a problem of its own, on the rows where it is not missing. The penalty is the one
    with the lowest loss (squared error, log loss) on the validation labels. A validation part
    too small to choose on joins the training rows, and the penalty comes from a 5-fold
    cross-validation of those. The result is deterministic.

    Args:
        features_train: (n, d) features of the training items.
        y_train: (n, k) labels, nan = missing; 0 or 1 for `logistic`.
        features_valid: (v, d), v may be 0.
        y_valid: (v, k).
        features_test: (m, d).
        kind: "number" (ridge regression) or "binary" (logistic regression), as `Task.kind`.

    Returns:
        (m, k) predictions: values, or probabilities of 1.

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
        _probe_column(
            _labelled(features_train, y_train[:, column], column),
            _labelled(features_valid, y_valid[:, column]),
            features_test.astype(np.float64),
            kind,
        )
        for column in range(y_train.shape[1])
    ]
    return np.stack(columns, axis=1)


def probe_adapter(features_for_seed: Callable[[int], Features], kind: Kind) -> Adapter:
    """The probe as an adapter of a model.

    Args:
        features_for_seed: seed -> a function from m texts to (m, d) features. A pretrained
            model gives the same function for every seed, a random-initialised control a new
            one; each distinct text goes through each function once.
        kind: as in `probe`.
    """
    known: dict[Features, dict[str, np.ndarray]] = {}

    def embed(features: Features, texts: Sequence[str]) -> np.ndarray:
        rows = known.setdefault(features, {})
        new = list(dict.fromkeys(text for text in texts if text not in rows))
        if new:
            rows.update(zip(new, np.asarray(features(new), np.float64), strict=True))
        width = len(next(iter(rows.values())))
        return np.array([rows[text] for text in texts], np.float64).reshape(-1, width)

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        features = features_for_seed(seed)
        x = embed(features, (*train.texts, *valid.texts, *test.texts))
        first, second = len(train), len(train) + len(valid)
        return probe(x[:first], train.targets, x[first:second], valid.targets, x[second:], kind)

    return adapt


def _labelled(features, labels, column=None) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have a label; `column` names a column that must have one."""
    have = ~np.isnan(labels)
    if column is not None and not have.any():
        raise UserError(f"label column {column} has no label in the training part")
    return features[have].astype(np.float64), labels[have]


def _probe_column(train, valid, features_test, kind) -> np.ndarray:
    x, y = train
    enough = len(valid[1]) >= FEWEST_VALIDATION_LABELS
    # A log loss on one class only would reward the most extreme fit.
    if enough and (kind == "number" or len(np.unique(valid[1])) == 2):
        losses = _losses(x, y, *valid, kind)
    else:
        x, y = np.concatenate([x, valid[0]]), np.concatenate([y, valid[1]])
        losses = _cross_validated_losses(x, y, kind)
    if len(np.unique(y)) == 1:
        return np.full(len(features_test), y[0])
    # argmin takes the first of equals: ridge's weakest, logistic's strongest penalty.
    best = STRENGTHS[kind][[int(np.argmin(losses))]]
    return _PATHS[kind](*_standardised(x, features_test), y, best)[0]


def _cross_validated_losses(x, y, kind) -> np.ndarray:
    smallest = len(y) if kind == "number" else int(np.unique(y, return_counts=True)[1].min())
    folds = min(FOLDS, smallest)
    if folds < 2:  # nothing to choose on: the middle of the grid
        grid = len(STRENGTHS[kind])
        return np.abs(np.arange(grid) - grid // 2).astype(np.float64)
    split = KFold if kind == "number" else StratifiedKFold
    parts = split(folds, shuffle=True, random_state=0).split(x, y)
    return np.sum([len(b) * _losses(x[a], y[a], x[b], y[b], kind) for a, b in parts], axis=0)


def _losses(x, y, x_valid, y_valid, kind) -> np.ndarray:
    """The mean validation loss at each strength of the grid."""
    if len(np.unique(y)) == 1:
        return np.zeros(len(STRENGTHS[kind]))
    guesses = _PATHS[kind](*_standardised(x, x_valid), y, STRENGTHS[kind])
    if kind == "number":
        return np.mean((guesses - y_valid) ** 2, axis=1)
    right = np.clip(np.where(y_valid == 1, guesses, 1 - guesses), 1e-12, 1)
    return -np.mean(np.log(right), axis=1)


def _standardised(x, x_test) -> tuple[np.ndarray, np.ndarray]:
    scaler = StandardScaler().fit(x)
    return scaler.transform(x), scaler.transform(x_test)


def _ridge_path(x, x_test, y, strengths) -> np.ndarray:
    """(g, m) ridge predictions at g penalties, from one eigendecomposition for all of them.

    Of the d x d or the n x n product of the centred features, whichever is smaller; both give
    sklearn.linear_model.Ridge's solution.
    """
    mean = y.mean()
    tall = x.shape[0] >= x.shape[1]
    values, vectors = np.linalg.eigh(x.T @ x if tall else x @ x.T)
    right = vectors.T @ ((x.T @ (y - mean)) if tall else y - mean)
    left = (x_test if tall else x_test @ x.T) @ vectors
    # Rounding leaves eigenvalues of a singular product just below zero.
    shrunk = right[:, None] / (np.maximum(values, 0)[:, None] + strengths)
    return mean + (left @ shrunk).T


def _logistic_path(x, x_test, y, strengths) -> np.ndarray:
    """(g, m) probabilities of 1 at g inverse penalties."""
    fits = (LogisticRegression(C=strength, max_iter=2000).fit(x, y) for strength in strengths)
    return np.stack([fit.predict_proba(x_test)[:, 1] for fit in fits])


_PATHS = {"number": _ridge_path, "binary": _logistic_path}
