import dataclasses
import json

import numpy as np
import pytest

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate import baselines
from biofm_jax.evaluate.baselines import baseline_scores, ecfp4_forest, one_hot, one_hot_ridge
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
    "lipophilicity": 0.874,
    # Regression guards: measured with this code, not reported elsewhere.
    "dms_blat": 0.761,
    "quickstart/tpsa": 30.798,
}


@pytest.mark.timeout(1500)  # the forest of lipophilicity takes two minutes of a quiet machine
@pytest.mark.parametrize(
    ("name", "value"),
    [*REPORTED.items(), *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW.items())],
)
def test_reported_figures_are_reproduced(biofm_data, tmp_path, name, value):
    task = get_task(name)
    got = baseline_scores(task, task.data(biofm_data), tmp_path)[task.baselines[0]]
    assert got.value == pytest.approx(value, abs=0.00051)
    assert got.low < got.value < got.high


def test_letter_counts_beat_fingerprints_on_additive_properties(biofm_data, tmp_path):
    """The reason why they stand in the table: RMSE 13.185 against 30.798, 3.342 against 4.299."""
    for name, value in (("quickstart/tpsa", 13.185), ("freesolv", 3.342)):
        task = dataclasses.replace(get_task(name), baselines=("letter_counts",))
        scores = baseline_scores(task, task.data(biofm_data), tmp_path)
        assert scores["letter_counts"].value == pytest.approx(value, abs=0.002)
        assert value < (REPORTED | SLOW)[name]


def test_scores_are_computed_once(tmp_path, monkeypatch):
    calls = []

    def adapter(train, valid, test, seed):
        calls.append(test.ids)
        return np.arange(len(test.ids), dtype=float)[:, None]

    monkeypatch.setitem(baselines.BASELINES, "ecfp4_ridge", adapter)
    task = dataclasses.replace(get_task("quickstart/tpsa"), baselines=("ecfp4_ridge",))
    data = task.data(None)
    first = baseline_scores(task, data, tmp_path)
    assert baseline_scores(task, data, tmp_path) == first
    assert len(calls) == 1
    (path,) = tmp_path.glob("*.baseline.json")
    assert json.loads(path.read_text())["metric"] == "rmse"
    path.write_text('{"score": {"val')  # cut short: computed again
    assert baseline_scores(task, data, tmp_path) == first
    assert len(calls) == 2


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
