"""Linear probes: ridge or logistic regression on frozen features."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

# Names that other files take from here as well.
from biofm_jax.adapt.columns import FEWEST_VALIDATION_LABELS as FEWEST_VALIDATION_LABELS
from biofm_jax.adapt.columns import Kind, by_column, choose, most_likely
from biofm_jax.adapt.features import Features, Remembered, frozen_adapter
from biofm_jax.adapt.labelled import Adapter
from biofm_jax.array_types import typed

# Penalties for standardised features, half a decade apart. Ridge's grows with the number of
# rows, so the upper end has to reach "predict the mean" on thousands of them.
STRENGTHS = {
    "number": np.logspace(-2, 6, 17),
    "binary": np.logspace(-4, 2, 13),
    "class": np.logspace(-4, 2, 13),
}


@dataclasses.dataclass(frozen=True)
class ProbeSpec:
    """Which features a probe reads.

    Attributes:
        pooling: the mean over tokens, the first token's vector (cls), or the model's own. A task
            with a label for every residue reads each one's own state, and takes no pooling.
        layer: hidden states after this many blocks, before any final norm; 0 is the embeddings.
            By default the model's output.
    """

    pooling: Literal["own", "mean", "cls"] = "own"
    layer: int | None = None


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
        y_train: (n, k) labels, nan = missing; 0 or 1 for "binary", class numbers for "class".
        features_valid: (v, d), v may be 0.
        y_valid: (v, k).
        features_test: (m, d).
        kind: "number" (ridge regression), "binary" (logistic regression) or "class"
            (multinomial logistic regression), as `Task.kind`.

    Returns:
        (m, k) predictions: values, probabilities of 1, or the most likely class numbers.

    Raises:
        UserError: features are not finite, or a column has no training label.
    """
    fit = functools.partial(_probe_column, kind=kind)
    return by_column(features_train, y_train, features_valid, y_valid, features_test, fit)


def probe_adapter(features_for_seed: Callable[[int], Features] | Remembered, kind: Kind) -> Adapter:
    """The probe as an adapter of a model.

    Args:
        features_for_seed: seed -> a function from m texts to (m, d) features; see `Remembered`.
        kind: as in `probe`.
    """
    return frozen_adapter(features_for_seed, functools.partial(probe, kind=kind))


def _probe_column(train, valid, features_test, kind) -> np.ndarray:
    def fit(x, y, x_test, strengths=STRENGTHS[kind]) -> np.ndarray:
        return _PATHS[kind](*_standardised(x, x_test), y, strengths)

    # The first of equals is ridge's weakest, logistic's strongest penalty.
    x, y, best = choose(train, valid, kind, fit, len(STRENGTHS[kind]))
    if len(np.unique(y)) == 1:
        return np.full(len(features_test), y[0])
    guess = fit(x, y, features_test, STRENGTHS[kind][[best]])[0]
    return most_likely(y, guess) if kind == "class" else guess


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
    return _multinomial_path(x, x_test, y, strengths)[..., 1]


def _multinomial_path(x, x_test, y, strengths) -> np.ndarray:
    """(g, m, c) probabilities of the c classes at g inverse penalties."""
    fits = (LogisticRegression(C=strength, max_iter=2000).fit(x, y) for strength in strengths)
    return np.stack([fit.predict_proba(x_test) for fit in fits])


_PATHS = {"number": _ridge_path, "binary": _logistic_path, "class": _multinomial_path}
