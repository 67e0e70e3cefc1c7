import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from biofm_jax.adapt.knn import MOST_NEIGHBOURS, knn, knn_adapter, neighbour_means
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError

SETTINGS = {"metric": "cosine", "algorithm": "brute", "weights": "distance"}


def example(n, kind, seed=0):
    """Features whose direction says the label, with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) + 0.5
    y = (x[:, 0] - x[:, 1]) / np.linalg.norm(x, axis=1) + 0.3 * rng.normal(size=n)
    return x, (y > 0).astype(float)[:, None] if kind == "binary" else y[:, None]


def parts(x, y, first, second):
    return x[:first], y[:first], x[first:second], y[first:second], x[second:]


def reference(x, y, x_test, k, kind):
    """(m,) scikit-learn's prediction by k neighbours."""
    if kind == "number":
        return KNeighborsRegressor(k, **SETTINGS).fit(x, y).predict(x_test)
    return KNeighborsClassifier(k, **SETTINGS).fit(x, y).predict_proba(x_test)[:, 1]


@pytest.mark.parametrize("kind", ["number", "binary"])
@pytest.mark.parametrize("n", [120, 7])
def test_every_number_of_neighbours_equals_sklearn(kind, n):
    x, y = example(n, kind)
    x_test = example(15, kind, seed=1)[0]
    got = neighbour_means(x, y[:, 0], x_test)
    assert got.shape == (MOST_NEIGHBOURS, 15)
    for k, row in enumerate(got, 1):
        want = reference(x, y[:, 0], x_test, min(k, n), kind)
        np.testing.assert_allclose(row, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["number", "binary"])
def test_k_is_the_best_on_the_validation_part(kind):
    x, y = example(300, kind)
    x_train, y_train, x_valid, y_valid, x_test = parts(x, y, 150, 250)
    losses = []
    for k in range(1, MOST_NEIGHBOURS + 1):
        guess = reference(x_train, y_train[:, 0], x_valid, k, kind)
        if kind == "number":
            losses.append(np.mean((guess - y_valid[:, 0]) ** 2))
        else:
            losses.append(log_loss(y_valid[:, 0], np.clip(guess, 1e-12, 1 - 1e-12)))
    k = 1 + int(np.argmin(losses))
    assert 1 < k < MOST_NEIGHBOURS
    got = knn(x_train, y_train, x_valid, y_valid, x_test, kind)
    want = reference(x_train, y_train[:, 0], x_test, k, kind)
    np.testing.assert_allclose(got[:, 0], want, rtol=1e-9)


def test_only_the_direction_of_features_counts():
    x, y = example(200, "number")
    scale = np.random.default_rng(3).uniform(0.1, 10, (200, 1))
    whole = knn(*parts(x, y, 120, 160), "number")
    np.testing.assert_allclose(knn(*parts(x * scale, y, 120, 160), "number"), whole, rtol=1e-6)


def test_a_known_text_has_its_own_label():
    x, y = example(100, "number")
    x[95:] = x[:5]
    np.testing.assert_allclose(knn(*parts(x, y, 60, 95), "number"), y[:5], atol=1e-8)


def test_small_validation_part_joins_the_training_rows():
    x, y = example(80, "binary")
    joined = knn(x[:50], y[:50], x[:0], y[:0], x[50:], "binary")
    np.testing.assert_array_equal(knn(*parts(x, y, 40, 50), "binary"), joined)


def test_missing_labels_leave_only_their_own_column():
    x, y = example(200, "number")
    both = np.concatenate([y, y], 1)
    both[::3, 1] = np.nan
    keep = np.arange(200) % 3 > 0
    got = knn(*parts(x, both, 120, 180), "number")
    train, valid = keep & (np.arange(200) < 120), keep & (np.arange(200) >= 120)
    valid[180:] = False
    alone = knn(x[train], y[train], x[valid], y[valid], x[180:], "number")
    np.testing.assert_array_equal(got[:, 1], alone[:, 0])
    np.testing.assert_array_equal(got[:, 0], knn(*parts(x, y, 120, 180), "number")[:, 0])


def test_degenerate_labels():
    x, y = example(50, "number")
    ones = np.ones_like(y)
    for kind in ("number", "binary"):
        np.testing.assert_allclose(knn(*parts(x, ones, 30, 40), kind), 1.0)
    assert np.isfinite(knn(x[:1], y[:1], x[:0], y[:0], x[2:], "number")).all()
    with pytest.raises(UserError, match="column 0 has no label"):
        knn(*parts(x, ones * np.nan, 30, 40), "number")


def test_adapter_finds_a_planted_signal_and_sees_no_test_label():
    x, y = example(400, "number")
    texts = tuple(map(str, range(400)))

    def labelled(index):
        return Labelled(tuple(texts[i] for i in index), tuple(texts[i] for i in index), y[index])

    train, valid, test = map(labelled, np.split(np.arange(400), [250, 300]))
    adapter = knn_adapter(lambda seed: lambda asked: x[[int(t) for t in asked]], "number")
    predicted = adapter(train, valid, test.without_targets(), 0)
    assert np.corrcoef(predicted[:, 0], test.targets[:, 0])[0, 1] > 0.7
    np.testing.assert_array_equal(predicted, adapter(train, valid, test, 0))
