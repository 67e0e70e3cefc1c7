"""Labels that are class numbers, by every method on frozen features."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from biofm_jax.adapt import probe as probes
from biofm_jax.adapt.columns import choose, most_likely
from biofm_jax.adapt.fractions import few_shot_adapter, fraction_adapter, limited_adapter
from biofm_jax.adapt.knn import MOST_NEIGHBOURS, knn, neighbour_shares
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.probe import probe
from biofm_jax.adapt.prototypes import prototypes

METHODS = {"probe": probe, "knn": knn, "prototypes": prototypes}
NUMBERS = np.array([1.0, 4.0, 7.0])  # class numbers need not be 0, 1, 2

each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def clouds(n, distance=3.0, seed=0, shares=(0.5, 0.3, 0.2)):
    """Three clouds around the corners of a triangle, far from the origin."""
    rng = np.random.default_rng(seed)
    place = rng.choice(3, n, p=shares)
    x = rng.normal(size=(n, 10)) + 20
    x[:, :3] += distance * np.eye(3)[place]
    return x, NUMBERS[place][:, None]


def parts(x, y, first, second):
    return x[:first], y[:first], x[first:second], y[first:second], x[second:]


@each_method
def test_finds_planted_classes_and_is_deterministic(method):
    x, y = clouds(400)
    predicted = method(*parts(x, y, 250, 320), kind="class")
    assert predicted.shape == (80, 1) and set(predicted[:, 0]) == set(NUMBERS)
    assert np.mean(predicted == y[320:]) > 0.85
    np.testing.assert_array_equal(predicted, method(*parts(x, y, 250, 320), kind="class"))


@each_method
def test_the_numbers_of_the_classes_mean_nothing_but_their_names(method):
    x, y = clouds(300, distance=1.5)
    renamed = {1.0: 30.0, 4.0: 10.0, 7.0: 20.0}
    other = np.vectorize(renamed.get)(y)
    one = method(*parts(x, y, 200, 250), kind="class")
    two = method(*parts(x, other, 200, 250), kind="class")
    np.testing.assert_array_equal(np.vectorize(renamed.get)(one), two)


@each_method
def test_test_labels_and_missing_labels_change_nothing_else(method):
    x, y = clouds(300)
    both = np.concatenate([y, y], 1)
    both[::3, 1] = np.nan
    got = method(*parts(x, both, 180, 250), kind="class")
    keep = np.arange(300) % 3 > 0
    train, valid = keep & (np.arange(300) < 180), keep & (np.arange(300) >= 180)
    valid[250:] = False
    alone = method(x[train], y[train], x[valid], y[valid], x[250:], kind="class")
    np.testing.assert_array_equal(got[:, 1], alone[:, 0])
    np.testing.assert_array_equal(got[:, 0], method(*parts(x, y, 180, 250), kind="class")[:, 0])


@each_method
def test_few_and_degenerate_labels(method):
    x, y = clouds(60)
    four = np.full_like(y, 4.0)
    assert (method(*parts(x, four, 30, 40), kind="class") == 4).all()
    first = [int(np.argmax(y[:, 0] == number)) for number in NUMBERS]
    shown = method(x[first], y[first], x[:0], y[:0], x[40:], kind="class")
    assert set(shown[:, 0]) <= set(NUMBERS)
    # A class with a single label, and one that only the validation part knows.
    rare = y.copy()
    rare[0] = 9.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = method(*parts(x, rare, 35, 40), kind="class")
        rare[0], rare[30] = y[0], 9.0
        large = method(*parts(x, rare, 30, 55), kind="class")
    assert set(small[:, 0]) <= {*NUMBERS, 9.0} and set(large[:, 0]) <= set(NUMBERS)


def test_the_probe_is_the_best_multinomial_regression_on_the_validation_part():
    x, y = clouds(300, distance=1.0)
    x_train, y_train, x_valid, y_valid, x_test = parts(x, y, 120, 220)
    scaler = StandardScaler().fit(x_train)
    fits = [
        LogisticRegression(C=c, max_iter=2000).fit(scaler.transform(x_train), y_train[:, 0])
        for c in probes.STRENGTHS["class"]
    ]
    losses = [log_loss(y_valid[:, 0], f.predict_proba(scaler.transform(x_valid))) for f in fits]
    best = int(np.argmin(losses))
    assert 0 < best < len(fits) - 1  # the choice was not at an end of the grid
    want = fits[best].predict(scaler.transform(x_test))
    np.testing.assert_array_equal(
        probe(x_train, y_train, x_valid, y_valid, x_test, "class")[:, 0], want
    )


def test_knn_votes_as_sklearn_for_the_best_k_on_the_validation_part():
    x, y = clouds(300, distance=1.5)
    x = x - 20
    x_train, y_train, x_valid, y_valid, x_test = parts(x, y, 150, 250)
    fits = [
        KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights="distance").fit(
            x_train, y_train[:, 0]
        )
        for k in range(1, MOST_NEIGHBOURS + 1)
    ]
    shares = neighbour_shares(x_train, y_train[:, 0], x_valid)
    np.testing.assert_allclose(shares, [f.predict_proba(x_valid) for f in fits], atol=1e-12)
    np.testing.assert_allclose(shares.sum(-1), 1)
    losses = [log_loss(y_valid[:, 0], f.predict_proba(x_valid)) for f in fits]
    best = int(np.argmin(losses))
    assert 0 < best < MOST_NEIGHBOURS - 1
    want = fits[best].predict(x_test)
    np.testing.assert_array_equal(
        knn(x_train, y_train, x_valid, y_valid, x_test, "class")[:, 0], want
    )


def test_prototypes_take_the_centroid_with_the_highest_cosine():
    x, y = clouds(300, distance=2.0)
    x_train, y_train, x_valid, y_valid, x_test = parts(x, y, 150, 220)
    centroids = np.array([x_train[y_train[:, 0] == number].mean(0) for number in NUMBERS])
    centre = centroids.mean(0)
    want = NUMBERS[cosine_similarity(x_test - centre, centroids - centre).argmax(1)]
    got = prototypes(x_train, y_train, x_valid, y_valid, x_test, "class")
    np.testing.assert_array_equal(got[:, 0], want)


@each_method
def test_two_classes_are_the_binary_label_at_a_half(method):
    x, y = clouds(300, distance=1.5, shares=(0.6, 0.4, 0.0))
    label = (y > 1).astype(float)
    as_binary = method(*parts(x, label, 200, 250), kind="binary")
    as_class = method(*parts(x, label, 200, 250), kind="class")
    np.testing.assert_array_equal(as_class, (as_binary > 0.5).astype(float))


def test_choosing_by_the_log_loss_of_classes():
    """A candidate that is right on the validation part beats one that is right with less weight."""
    y = np.tile(NUMBERS, 10)
    x = np.zeros((30, 1))

    def guesses(x, y, x_new, sure=(0.5, 0.9, 0.7)):
        right = np.tile(np.eye(3), (len(x_new) // 3, 1))
        return np.stack([s * right + (1 - s) / 2 * (1 - right) for s in sure])

    assert choose((x, y), (x, y), "class", guesses, 3)[2] == 1
    unknown = (x, np.where(y == 7, 8, y))  # no candidate knows class 8: the rest decides
    assert choose((x, y), unknown, "class", guesses, 3)[2] == 1


def test_of_equally_likely_classes_the_lowest_number_wins():
    got = most_likely(np.array([7.0, 1, 4, 7]), np.array([[0.2, 0.4, 0.4], [0.4, 0.4, 0.2]]))
    np.testing.assert_array_equal(got, [4, 1])


def labelled(targets):
    ids = tuple(map(str, range(len(targets))))
    return Labelled(ids, ids, np.array(targets, float)[:, None])


def seen_by(limit, train, valid):
    """The training and validation labels that an adapter sees within a limit."""
    seen = []

    def spy(train, valid, test, seed):
        seen.extend((train.targets[:, 0], valid.targets[:, 0]))
        return np.zeros((len(test), 1))

    limit(spy)(train, valid, labelled([0]), 3)
    return [dict(zip(*np.unique(labels, return_counts=True))) for labels in seen]


def test_few_labels_are_few_of_each_class():
    train = labelled([0] * 40 + [1] * 20 + [2] * 10 + [5])
    valid = labelled([0] * 10 + [1] * 10 + [2] * 10)
    shots = seen_by(lambda spy: few_shot_adapter(spy, 4, "class"), train, valid)
    assert shots == [{0: 4, 1: 4, 2: 4, 5: 1}, {}]
    share = seen_by(lambda spy: fraction_adapter(spy, 0.1, "class"), train, valid)
    assert share == [{0: 4, 1: 2, 2: 2, 5: 1}, {0: 1, 1: 1, 2: 1}]
    named = seen_by(lambda spy: limited_adapter(spy, "knn@4shot", "class"), train, valid)
    assert named == shots
    # The same labels as numbers are one group.
    (numbers, _) = seen_by(lambda spy: few_shot_adapter(spy, 4, "number"), train, valid)
    assert sum(numbers.values()) == 4
    (unsaid, _) = seen_by(lambda spy: few_shot_adapter(spy, 4), train, valid)
    assert unsaid == numbers
