"""Davis and KIBA: the published folds, cold splits, leaks, and what simple methods reach."""

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax import compare
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines import BASELINES
from biofm_jax.evaluate.canonical import canonical_pair
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.metrics import metric_value
from biofm_jax.evaluate.task import all_tasks, get_task
from biofm_jax.evaluate.tasks.affinity import load_affinities, load_pairs

DRUG = "random:experiments/drug_discovery/smiles_masked.py:smoke"
PROTEIN = "random:experiments/computational_biology/esm2_masked.py:smoke"


@pytest.fixture(scope="module")
def davis(biofm_data):
    return load_pairs(biofm_data, "davis", "official")


def test_davis_is_pkd_in_the_published_folds(biofm_data, davis):
    raw = load_affinities(biofm_data, "davis")
    np.testing.assert_allclose(davis.items.targets[:, 0], -np.log10(raw.values / 1e9))
    assert davis.items.ids[0] == "11314340 AAK1" and raw.values[0] == 43
    (fold,) = davis.folds
    assert [len(fold.train), len(fold.valid), len(fold.test)] == [20037, 5009, 5010]
    assert set(fold.test) == set(raw.test) and set(fold.valid) == set(raw.train[-1])
    assert (davis.items.targets == 5).mean() == pytest.approx(0.696, abs=1e-3)


def test_the_leak_report_counts_kinases_of_one_sequence(davis):
    report = leak_report(davis, "affinity")
    assert report.exact.count == 929 and report.repeats.groups == 1224
    assert canonical_pair("OCC mkt") == canonical_pair("C(O)C MKT") == "CCO MKT"


@pytest.mark.parametrize("side", [0, 1])
def test_cold_splits_share_no_drug_or_no_target(biofm_data, side):
    name = ("drug", "target")[side]
    data = load_pairs(biofm_data, "davis", f"cold_{name}")
    (fold,) = data.folds
    texts = [canonical_pair(text).split(" ")[side] for text in data.items.texts]
    parts = [{texts[i] for i in part} for part in (fold.train, fold.valid, fold.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert sum(map(len, parts)) == (68, 379)[side]
    assert 0.15 < len(fold.test) / len(texts) < 0.25
    assert data.apart == (name,) and len(set(data.groups[name])) == (68, 379)[side]


def test_simple_methods_reach_what_the_tables_say(davis):
    found = {
        name: [
            metric_value(metric, davis.tested.targets, davis.predict_tested(BASELINES[name], 0))
            for metric in ("mse", "cindex")
        ]
        for name in get_task("affinity/davis").baselines
    }
    assert found["additive_means"] == pytest.approx([0.5545, 0.7947], abs=1e-4)
    # Published for KronRLS with other similarities: .379 and .871.
    # Products on one thread and on two round otherwise, and conjugate gradients amplify that:
    # .28396 and .88336, .28408 and .88366.
    assert found["kronecker_ridge"] == pytest.approx([0.2840, 0.8835], abs=3e-4)


def test_kiba_is_the_scores_that_were_measured(biofm_data):
    raw = load_affinities(biofm_data, "kiba")
    assert [len(fold) for fold in raw.train] == [19709] * 5 and len(raw.test) == 19709
    assert len(raw.values) == 118254 and raw.values.max() == pytest.approx(17.2001795)
    assert raw.ids()[0].startswith(raw.drugs[0]) and raw.values[0] == 11.1


def test_published_rows_stand_where_the_split_is_the_same():
    for name, task in all_tasks().items():
        if task.modality == "affinity":
            official = "cold" not in name
            assert all(row.comparable == official for row in task.published)
            assert bool(task.published) or not official
    rows = {row.name: row.value for row in get_task("affinity/kiba_cindex").published}
    assert rows["DeepDTA"] == 0.863
    rows = {row.name: row.value for row in get_task("affinity/davis").published}
    assert rows["DeepDTA"] == 0.261 and rows["GraphDTA (GIN)"] == 0.229


def test_two_models_are_asked_for_and_only_a_head_reads_pairs():
    tasks = [get_task("affinity/davis")]
    for model, partner, task, message in (
        (DRUG, "", tasks, "--partner"),
        (PROTEIN, DRUG, tasks, "its partner proteins"),
        (DRUG, PROTEIN, [get_task("esol")], "esol is a task of molecule models"),
    ):
        with pytest.raises(UserError, match=message):
            compare.load_models(model, partner, task)
    pair = compare.load_models(DRUG, PROTEIN, tasks)
    assert pair.params is None and pair.name == f"{DRUG}+{PROTEIN}"
    for method in ("knn", "lora", "masked_marginal"):
        with pytest.raises(UserError, match="read pairs: not"):
            compare.plan(["affinity/davis"], [method], 1)
    assert len(compare.plan(["affinity/*"], ["probe@3%"], 1)) == 12
