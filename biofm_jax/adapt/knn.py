"""Nearest neighbours by cosine on frozen features: nothing is trained, only k is chosen."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors

from biofm_jax.adapt.columns import Kind, by_column, choose, most_likely
from biofm_jax.adapt.features import Features, Remembered, frozen_adapter
from biofm_jax.adapt.labelled import Adapter
from biofm_jax.array_types import typed

MOST_NEIGHBOURS = 50
# Cosine distances of the same text differ from 0 by rounding, either way.
NO_DISTANCE = 1e-12


@typed
def knn(
    features_train: Float[np.ndarray, "n d"],
    y_train: Float[np.ndarray, "n k"],
    features_valid: Float[np.ndarray, "v d"],
    y_valid: Float[np.ndarray, "v k"],
    features_test: Float[np.ndarray, "m d"],
    kind: Kind,
) -> Float[np.ndarray, "m k"]:
    """Predict the test items from their nearest labelled items.

    A number is the mean of the neighbours' labels, a binary label the share of their votes, a
    class the one with most votes, each weighted by 1 / cosine distance (scikit-learn's
    `weights="distance"`); of equals the class with the lowest number wins. The number of
    neighbours, 1 to 50, is chosen for each label column as `probe` chooses its penalty, by the
    same loss on the same rows. Features are taken as they are. Deterministic.

    Args:
        features_train: (n, d) features of the training items.
        y_train: (n, k) labels, nan = missing; 0 or 1 for a binary label, or class numbers.
        features_valid: (v, d), v may be 0.
        y_valid: (v, k).
        features_test: (m, d).
        kind: of the label, as `Task.kind`.

    Returns:
        (m, k) predictions: values, probabilities of 1, or class numbers.

    Raises:
        UserError: features are not finite, or a column has no training label.
    """
    fit = functools.partial(_knn_column, kind=kind)
    return by_column(features_train, y_train, features_valid, y_valid, features_test, fit)


def knn_adapter(features_for_seed: Callable[[int], Features] | Remembered, kind: Kind) -> Adapter:
    """Nearest neighbours as an adapter of a model; arguments as of `probe.probe_adapter`."""
    return frozen_adapter(features_for_seed, functools.partial(knn, kind=kind))


def _knn_column(train, valid, features_test, kind) -> np.ndarray:
    means = neighbour_shares if kind == "class" else neighbour_means
    x, y, best = choose(train, valid, kind, means, MOST_NEIGHBOURS)
    guess = means(x, y, features_test)[best]
    return most_likely(y, guess) if kind == "class" else guess


def neighbour_shares(x: np.ndarray, y: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """(50, m, c) weighted shares of the c classes among the nearest 1, 2, ... 50 rows.

    Arguments as of `neighbour_means`; `y` holds class numbers.
    """
    return neighbour_means(x, (y[:, None] == np.unique(y)).astype(np.float64), x_test)


def neighbour_means(x: np.ndarray, y: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Weighted means of the labels of the nearest 1, 2, ... 50 rows.

    Args:
        x: (n, d) features of the labelled rows. With n < 50, all n from the nth mean on.
        y: (n,) or (n, c) their labels.
        x_test: (m, d).

    Returns:
        (50, m) or (50, m, c).
    """
    nearest = min(MOST_NEIGHBOURS, len(x))
    if not len(x_test):
        return np.zeros((MOST_NEIGHBOURS, 0, *y.shape[1:]))
    search = NearestNeighbors(n_neighbors=nearest, metric="cosine", algorithm="brute").fit(x)
    distances, found = search.kneighbors(x_test)
    weights = 1 / np.maximum(distances, NO_DISTANCE)
    weights = weights.reshape(*weights.shape, *(1,) * (y.ndim - 1))
    means = np.cumsum(weights * y[found], axis=1) / np.cumsum(weights, axis=1)
    return means[:, np.minimum(np.arange(MOST_NEIGHBOURS), nearest - 1)].swapaxes(0, 1)
