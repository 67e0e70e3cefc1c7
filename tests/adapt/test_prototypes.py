import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from biofm_jax.adapt.prototypes import TEMPERATURES, prototypes, prototypes_adapter
from biofm_jax.errors import UserError


def example(n, seed=0, distance=3.0):
    """Two clouds, both far from the origin, as hidden states are."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(float)
    x = rng.normal(size=(n, 20)) + 40
    x[:, 0] += distance * y
    return x, y[:, None]


def parts(x, y, first, second):
    return x[:first], y[:first], x[first:second], y[first:second], x[second:]


def test_finds_a_planted_signal_from_a_few_labels():
    x, y = example(400)
    few = np.concatenate([np.flatnonzero(y[:, 0] == label)[:8] for label in (0, 1)])
    scores = prototypes(x[few], y[few], x[:0], y[:0], x[100:])
    assert ((scores > 0) & (scores < 1)).all()
    assert roc_auc_score(y[100:], scores) > 0.85


def test_equals_a_softmax_of_cosine_similarities_with_the_best_temperature():
    x, y = example(300, distance=1.5)
    x_train, y_train, x_valid, y_valid, x_test = parts(x, y, 150, 220)
    centroids = np.array([x_train[y_train[:, 0] == label].mean(0) for label in (0, 1)])
    centre = centroids.mean(0)

    def reference(new, temperature):
        similar = cosine_similarity(new - centre, centroids - centre)
        return softmax(similar / temperature, axis=1)[:, 1]

    losses = []
    for temperature in TEMPERATURES:
        guess = reference(x_valid, temperature)
        right = np.where(y_valid[:, 0] == 1, guess, 1 - guess)
        losses.append(-np.mean(np.log(np.maximum(right, 1e-12))))
    best = TEMPERATURES[int(np.argmin(losses))]
    assert best not in (TEMPERATURES[0], TEMPERATURES[-1])
    got = prototypes(x_train, y_train, x_valid, y_valid, x_test)
    np.testing.assert_allclose(got[:, 0], reference(x_test, best))


def test_a_common_offset_of_all_features_changes_nothing():
    x, y = example(200)
    moved = prototypes(*parts(x + 100.0, y, 100, 150))
    np.testing.assert_allclose(moved, prototypes(*parts(x, y, 100, 150)), rtol=1e-8)


def test_columns_classes_and_kinds():
    x, y = example(120)
    both = np.concatenate([y, 1 - y], 1)
    both[::4, 0] = np.nan
    got = prototypes(*parts(x, both, 60, 100))
    np.testing.assert_allclose(got[:, 1], 1 - prototypes(*parts(x, y, 60, 100))[:, 0])
    assert (prototypes(*parts(x, np.ones_like(y), 60, 100)) == 1).all()
    single = prototypes(x[:2], np.array([[0.0], [1.0]]), x[:0], y[:0], x[2:])
    assert np.isfinite(single).all()
    with pytest.raises(UserError, match="use probe or knn for numbers"):
        prototypes(*parts(x, y * 2, 60, 100))
    with pytest.raises(UserError, match="use probe or knn for numbers"):
        prototypes_adapter(lambda seed: None, "number")
