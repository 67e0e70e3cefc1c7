import numpy as np
import pytest
from sklearn.linear_model import Ridge

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate import baselines
from biofm_jax.evaluate.baselines import (
    BASELINES,
    ecfp4_forest,
    ecfp4_ridge,
    one_hot,
    one_hot_ridge,
)
from biofm_jax.evaluate.metrics import score
from biofm_jax.evaluate.molecules import ecfp4
from biofm_jax.evaluate.task import get_task

REPORTED = {
    "flip_gb1/one_vs_rest": 0.279,
    "flip_gb1/two_vs_rest": 0.594,
    "flip_gb1/three_vs_rest": 0.755,
    "flip_gb1/low_vs_high": 0.343,
    "flip_gb1/sampled": 0.788,
    "bbbp": 0.690,
    "bace": 0.869,
    "freesolv": 4.299,
}
SLOW = {
    "esol": 1.651,
    # Regression guards: measured with this code, not reported elsewhere.
    "dms_blat": 0.761,
    "quickstart/tpsa": 30.798,
}


def scored(task, baseline, root):
    return scored_on(task.data(root), task, baseline)


def scored_on(dataset, task, baseline):
    predicted = dataset.predict_tested(BASELINES[baseline], seed=0)
    return score(task.metric, dataset.tested.targets, predicted)


@pytest.mark.parametrize(
    ("name", "value"),
    [*REPORTED.items(), *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW.items())],
)
def test_reported_figures_are_reproduced(biofm_data, name, value):
    task = get_task(name)
    got = scored(task, task.baselines[0], biofm_data)
    assert got.value == pytest.approx(value, abs=0.00051)
    assert got.low < got.value < got.high


def test_lipophilicity_by_few_trees_and_by_letters(biofm_data, monkeypatch):
    """Its 300 trees (0.874) take five minutes, and say of trees what the other tasks say."""
    monkeypatch.setattr(baselines, "FOREST_TREES", 10)
    baselines._forest.cache_clear()
    task = get_task("lipophilicity")
    dataset = task.data(biofm_data)
    for baseline, value in (("ecfp4_forest", 0.921), ("letter_counts", 1.020)):
        assert scored_on(dataset, task, baseline).value == pytest.approx(value, abs=0.00051)
    baselines._forest.cache_clear()  # nobody else gets the small one


def test_letter_counts_beat_fingerprints_on_additive_properties(biofm_data):
    """The reason why they stand in the table: RMSE 13.185 against 30.798, 3.342 against 4.299."""
    for name, value in (("quickstart/tpsa", 13.185), ("freesolv", 3.342)):
        got = scored(get_task(name), "letter_counts", biofm_data)
        assert got.value == pytest.approx(value, abs=0.002)
        assert value < (REPORTED | SLOW)[name]


def test_one_hot():
    hot = one_hot(("AC", "YX")).reshape(2, 2, 20)
    assert hot[0, 0].argmax() == 0 and hot[0, 1].argmax() == 1 and hot[1, 0].argmax() == 19
    assert hot[1, 1].sum() == 0  # not an amino acid
    with pytest.raises(UserError, match="one length"):
        one_hot(("A", "AC"))


def labelled(texts, targets):
    return Labelled(tuple(map(str, range(len(texts)))), tuple(texts), np.asarray(targets, float))


def test_ridge_fits_each_column_on_its_known_rows():
    train = labelled(["AA", "AC", "CA", "CC"] * 5, [[1, np.nan], [2, 5], [3, 6], [4, 7]] * 5)
    empty = labelled([], np.zeros((0, 2)))
    test = labelled(["AA", "CC"], np.full((2, 2), np.nan))
    predicted = one_hot_ridge(train, empty, test, seed=0)
    assert predicted.shape == (2, 2)
    np.testing.assert_allclose(predicted[:, 0], [1, 4], atol=0.3)
    assert predicted[1, 1] > predicted[0, 1]


def test_forest_gives_probabilities_for_binary_labels_and_is_deterministic():
    train = labelled(["CCO", "CCN", "c1ccccc1", "Cc1ccccc1"] * 3, [[0.0], [0], [1], [1]] * 3)
    test = labelled(["CCCO", "Oc1ccccc1"], np.full((2, 1), np.nan))
    empty = labelled([], np.zeros((0, 1)))
    one, other = (ecfp4_forest(train, empty, test, seed) for seed in (0, 1))
    np.testing.assert_array_equal(one, other)
    assert 0 <= one[0, 0] < 0.5 < one[1, 0] <= 1


def test_forest_of_one_class_or_of_other_labels():
    texts, test = ["CCO", "CCN", "c1ccccc1", "Cc1ccccc1"] * 3, labelled(["CCCO"], [[np.nan]])
    empty = labelled([], np.zeros((0, 1)))
    zeros = ecfp4_forest(labelled(texts, np.zeros((12, 1))), empty, test, seed=0)
    assert zeros.tolist() == [[0.0]]  # not the 1.0 of the only class there is
    rings = np.array([[0.0], [0], [1], [1]] * 3)
    one = ecfp4_forest(labelled(texts, rings), empty, test, seed=0)
    other = ecfp4_forest(labelled(texts, 1 - rings), empty, test, seed=0)
    assert one[0, 0] < 0.5 < other[0, 0]  # the forest that is kept is the one of these labels


def test_fingerprint_ridge_without_validation_labels_takes_the_middle_penalty():
    train = labelled(["CCO", "CCN", "c1ccccc1", "Cc1ccccc1"], np.arange(4.0)[:, None])
    test = labelled(["CCCO", "Oc1ccccc1"], np.full((2, 1), np.nan))
    want = Ridge(10.0).fit(ecfp4(train.texts), train.targets[:, 0]).predict(ecfp4(test.texts))
    for valid in (labelled([], np.zeros((0, 1))), labelled(["CO"], [[np.nan]])):
        np.testing.assert_allclose(ecfp4_ridge(train, valid, test, seed=0)[:, 0], want, rtol=1e-5)
