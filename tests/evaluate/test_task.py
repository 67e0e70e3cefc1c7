import dataclasses

import numpy as np
import pytest

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines import BASELINES
from biofm_jax.evaluate.metrics import METRICS
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, all_tasks, data_file, get_task

NAMED = {
    "bace",
    "bbbp",
    "dms_blat",
    "esol",
    "flip_gb1/low_vs_high",
    "flip_gb1/one_vs_rest",
    "flip_gb1/sampled",
    "flip_gb1/three_vs_rest",
    "flip_gb1/two_vs_rest",
    "freesolv",
    "lipophilicity",
    "quickstart/tpsa",
}


def dataset(folds=None):
    items = Labelled(tuple("abcd"), ("AA", "CC", "DD", "EE"), np.arange(4.0)[:, None])
    fold = Fold(np.array([2, 0]), np.array([], int), np.array([3, 1]))
    return Dataset(items, folds or (fold,), ("y",))


def test_every_task_has_a_metric_and_a_baseline():
    assert set(all_tasks()) >= NAMED
    for task in all_tasks().values():
        assert task.metric in METRICS
        assert task.baselines and set(task.baselines) <= set(BASELINES)
        assert task.direction == METRICS[task.metric].direction
        assert all(row.source for row in task.published)


def test_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match=r"'flip_gb1/low_high'.*mean flip_gb1/low_vs_high\?"):
        get_task("flip_gb1/low_high")


def test_missing_data_names_the_variable_and_the_path(monkeypatch, tmp_path):
    monkeypatch.delenv("BIOFM_DATA", raising=False)
    with pytest.raises(UserError, match=r"set BIOFM_DATA .*drug/moleculenet/bbbp\.csv\.gz|needs"):
        get_task("bbbp").data(None)
    monkeypatch.setenv("BIOFM_DATA", str(tmp_path))
    with pytest.raises(UserError, match=rf"{tmp_path}/compbio/flip_gb1/splits\.zip.*BIOFM_DATA"):
        get_task("flip_gb1/sampled").data(None)


def test_an_explicit_root_comes_before_the_variable(monkeypatch, tmp_path):
    (tmp_path / "x").write_text("")
    monkeypatch.setenv("BIOFM_DATA", "/nowhere")
    assert data_file(tmp_path, "x") == tmp_path / "x"


def test_predictions_come_back_in_data_order_and_test_labels_stay_hidden():
    def adapter(train, valid, test, seed):
        assert train.ids == ("c", "a") and train.targets[:, 0].tolist() == [2.0, 0.0]
        assert np.isnan(test.targets).all() and not np.isnan(train.targets).any()
        return np.array([[ord(name) + seed] for name in test.ids], float)

    data = dataset()
    assert data.tested.ids == ("b", "d")
    assert data.predict_tested(adapter, 1)[:, 0].tolist() == [ord("b") + 1, ord("d") + 1]
    with pytest.raises(UserError, match=r"shape \(2,\), the labels \(2, 1\)"):
        data.predict_tested(lambda *_: np.zeros(2), 0)


def test_columns_have_a_cell_for_each_item():
    data = dataclasses.replace(dataset(), groups={"site": "aabb"}, apart=("site",))
    assert data.fingerprint() == dataset().fingerprint()  # the same items and folds
    for wrong in ({"groups": {"site": "aab"}}, {"metadata": {"site": "aab"}}):
        with pytest.raises(UserError, match="column site has 3 cells, not 4"):
            dataclasses.replace(dataset(), **wrong)
    with pytest.raises(UserError, match="no grouping column 'sit'; there are site"):
        dataclasses.replace(data, apart=("sit",))


def test_overlapping_parts_are_refused():
    with pytest.raises(UserError, match="item stands in two parts"):
        dataset((Fold(np.array([0, 1]), np.array([1]), np.array([2])),))
    twice = Fold(np.array([0]), np.array([1]), np.array([2]))
    with pytest.raises(UserError, match="tested in two folds"):
        dataset((twice, twice))


def test_fingerprint_sees_texts_labels_and_folds():
    data = dataset()
    other = dataset((Fold(np.array([0]), np.array([2]), np.array([3, 1])),))
    relabelled = dataclasses.replace(
        data, items=dataclasses.replace(data.items, targets=data.items.targets + 1)
    )
    assert data.fingerprint() == dataset().fingerprint()
    assert len({data.fingerprint(), other.fingerprint(), relabelled.fingerprint()}) == 3


def test_a_task_without_its_data_names_where_it_comes_from(tmp_path):
    for task in all_tasks().values():
        if task.name == "quickstart/tpsa":  # ships in a dependency
            continue
        told = r"`biofm data fetch [a-z0-9_]+` brings it|smaller copies of those of https://\S+"
        with pytest.raises(UserError, match=told):
            task.data(tmp_path)
