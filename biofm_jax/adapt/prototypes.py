"""Nearest class centroid on frozen features, for classes with few examples."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from sklearn.preprocessing import normalize

from biofm_jax.adapt.columns import Kind, by_column, choose, most_likely
from biofm_jax.adapt.features import Features, Remembered, frozen_adapter
from biofm_jax.adapt.labelled import Adapter
from biofm_jax.array_types import typed
from biofm_jax.errors import UserError

# Of the softmax; the order of the items, and so the ROC-AUC, does not depend on it. From the
# hottest down, so that of equal ones the least confident is taken.
TEMPERATURES = np.logspace(1, -2, 13)


@typed
def prototypes(
    features_train: Float[np.ndarray, "n d"],
    y_train: Float[np.ndarray, "n k"],
    features_valid: Float[np.ndarray, "v d"],
    y_valid: Float[np.ndarray, "v k"],
    features_test: Float[np.ndarray, "m d"],
    kind: Kind = "binary",
) -> Float[np.ndarray, "m k"]:
    """Score the test items by their similarity to the centroids of the classes.

    The score is the softmax over the classes of cosine similarity / temperature, all vectors
    taken from the mean of the centroids: a hidden state's common offset would make all cosines
    alike. (Prototypical networks, arXiv 1703.05175, with the centred and
    normalised features of SimpleShot, arXiv 1911.04623.) The temperature is chosen for each
    label column as `probe` chooses its penalty. Deterministic.

    Args:
        features_train: (n, d) features of the training items.
        y_train: (n, k) labels 0 or 1, or class numbers; nan = missing.
        features_valid: (v, d), v may be 0.
        y_valid: (v, k).
        features_test: (m, d).
        kind: "binary" or "class".

    Returns:
        (m, k) scores of label 1, in 0 to 1, or the class numbers with the highest scores.

    Raises:
        UserError: numbers are asked for, a binary label is neither 0 nor 1, features are not
            finite, or a column has no training label.
    """
    _check(kind)
    known = np.unique(y_train[~np.isnan(y_train)])
    if kind == "binary" and not np.isin(known, (0, 1)).all():
        raise UserError(
            f"prototypes want labels 0 and 1, not {known[:3].tolist()}: use probe or knn for "
            "numbers"
        )
    fit = functools.partial(_prototypes_column, kind=kind)
    return by_column(features_train, y_train, features_valid, y_valid, features_test, fit)


def prototypes_adapter(
    features_for_seed: Callable[[int], Features] | Remembered, kind: Kind
) -> Adapter:
    """Prototypes as an adapter of a model; arguments as of `probe.probe_adapter`.

    Raises:
        UserError: `kind` is "number".
    """
    _check(kind)
    return frozen_adapter(features_for_seed, functools.partial(prototypes, kind=kind))


def _check(kind: Kind) -> None:
    if kind == "number":
        raise UserError("prototypes are of classes: use probe or knn for numbers")


def _prototypes_column(train, valid, features_test, kind) -> np.ndarray:
    def guesses(x, y, x_test) -> np.ndarray:
        return _scores(x, y, x_test) if kind == "class" else _scores(x, y, x_test)[..., 1]

    x, y, best = choose(train, valid, kind, guesses, len(TEMPERATURES))
    if len(np.unique(y)) == 1:
        return np.full(len(features_test), y[0])
    guess = guesses(x, y, features_test)[best]
    return most_likely(y, guess) if kind == "class" else guess


def _scores(x, y, x_test) -> np.ndarray:
    """(g, m, c) scores of the c classes at g temperatures."""
    centroids = np.stack([x[y == label].mean(0) for label in np.unique(y)])
    centre = centroids.mean(0)
    if not len(x_test):
        return np.zeros((len(TEMPERATURES), 0, len(centroids)))
    similar = normalize(x_test - centre) @ normalize(centroids - centre).T
    return softmax(similar / TEMPERATURES[:, None, None], axis=-1)
