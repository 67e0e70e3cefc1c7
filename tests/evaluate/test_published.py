"""Published numbers that can be computed again: peers' own scores, on exactly the task's items."""

import csv
import gzip

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from biofm_jax.evaluate.metrics import metric_value
from biofm_jax.evaluate.spreadsheet import read_sheet
from biofm_jax.evaluate.task import all_tasks, get_task
from biofm_jax.evaluate.tasks.brca1 import HEADER, SHEET

BLAT = "compbio/dms_blat"
PROTEINGYM = "compbio/proteingym_reference"
HINT = "drug/trial_outcome_phase1/HINT_released_predictions_phase_I_test.csv.gz"


def published(task):
    return {row.name: row for row in get_task(task).published}


def table(path):
    with gzip.open(path, "rt", newline="") as lines:
        return list(csv.DictReader(lines))


def column(rows, name):
    return np.array([float(row[name]) if row[name] else np.nan for row in rows])


@pytest.fixture(scope="module")
def blat(biofm_data):
    """The tested labels, and rows of the released scores in the order of the tested items."""
    data = get_task("dms_blat").data(biofm_data)
    path = biofm_data / BLAT / "BLAT_ECOLX_Ranganathan2015_labeled.csv.gz"
    rows = {row["mutant"]: row for row in table(path)}
    return data.tested.targets, [rows[name] for name in data.tested.ids]


@pytest.fixture(scope="module")
def reported(biofm_data):
    """Spearman by method of `rho_pp.csv`, for the beta-lactamase scan."""
    with (biofm_data / BLAT / "rho_pp.csv").open(newline="") as lines:
        rows = [
            r for r in csv.DictReader(lines) if r["protein_name"] == "BLAT_ECOLX_Ranganathan2015"
        ]
    return {row["prediction_name"]: float(row["rho"]) for row in rows}


def esm_1v(rows):
    return np.mean([column(rows, f"esm1v_t33_650M_UR90_{i}") for i in range(1, 6)], axis=0)


def test_esm_1v_on_exactly_the_items_of_dms_blat(blat):
    """Recomputed: the mean of its five models' released scores. The comparable row is this one."""
    truth, rows = blat
    row = published("dms_blat")["ESM-1v zero-shot"]
    value = metric_value("spearman", truth, esm_1v(rows)[:, None])
    assert row.comparable and row.value == round(value, 3) == 0.703


def test_what_esm_1v_reported_is_not_what_its_scores_give(blat, reported):
    """Reported .725; its released scores give .703, and .720 on the variants of other rows."""
    truth, rows = blat
    row = published("dms_blat")["ESM-1v zero-shot, as reported"]
    assert row.value == round(reported["ESM-1v (zero shot)"], 3) == 0.725 and not row.comparable
    covered = ~np.isnan(column(rows, "mutation_effect_prediction_independent"))
    assert covered.sum() == 4788
    assert round(spearmanr(esm_1v(rows)[covered], truth[covered, 0]).statistic, 3) == 0.720


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("PSSM", "mutation_effect_prediction_independent"),
        ("EVMutation (published)", "mutation_effect_prediction_pairwise"),
        ("DeepSequence (published) - single", "mutation_effect_prediction_vae_1"),
        ("DeepSequence (published)", "mutation_effect_prediction_vae_ensemble"),
    ],
)
def test_that_table_is_on_fewer_variants(blat, reported, method, name):
    """Why PSSM and MSA Transformer are no comparable rows: 4,788 of the 4,996 variants."""
    truth, rows = blat
    scores = column(rows, name)
    covered = ~np.isnan(scores)
    assert covered.sum() == 4788
    got = spearmanr(scores[covered], truth[covered, 0]).statistic
    assert got == pytest.approx(reported[method], abs=1e-9)


def test_rows_of_that_table_have_its_digits(reported):
    rows = published("dms_blat")
    for name in ("PSSM", "MSA Transformer"):
        assert rows[name].value == round(reported[name], 3) and not rows[name].comparable


@pytest.mark.parametrize(
    ("task", "assay", "precursor", "column_of"),
    [
        ("dms_blat", "BLAT_ECOLX_Stiffler_2015", 23, {}),
        (
            "brca1/missense",
            "BRCA1_HUMAN_Findlay_2018",
            0,
            {"site-independent": "Site-Independent", "SaProt 650M": "SaProt (650M)"},
        ),
    ],
)
def test_proteingym_has_these_digits_for_as_many_variants(
    biofm_data, task, assay, precursor, column_of
):
    """Of the same protein; that of the lactamase is with its signal peptide, ours is mature."""
    folder = biofm_data / PROTEINGYM
    scores = table(folder / "zero_shot_DMS_substitutions_Spearman_DMS_level.csv.gz")
    (scores,) = [row for row in scores if row["DMS ID"] == assay]
    (about,) = [r for r in table(folder / "DMS_substitutions.csv.gz") if r["DMS_id"] == assay]
    data = get_task(task).data(biofm_data)
    assert int(scores["Number of Mutants"]) == len(data.tested) == len(set(data.items.texts))
    assert about["target_seq"][precursor:] == data.wild_type
    found = 0
    for name, row in published(task).items():
        if "ProteinGym" in row.source and name.endswith("zero-shot"):
            name = name.removesuffix(" zero-shot")
            size = name.removeprefix("ESM-2 ")
            assert float(scores[column_of.get(name, f"ESM2 ({size})")]) == row.value
            assert row.comparable
            found += 1
    assert found >= 4


def test_supervised_rows_of_dms_blat_have_the_digits_of_proteingym(biofm_data):
    names = {
        "one-hot": "One-Hot Encodings",
        "ESM-1v embeddings": "ESM-1v Embeddings",
        "ProteinNPT": "ProteinNPT",
        "Kermut": "Kermut",
    }
    path = biofm_data / PROTEINGYM / "supervised_Spearman_fold_random_5.csv"
    with path.open(newline="") as lines:
        (scores,) = [r for r in csv.DictReader(lines) if r["DMS_id"] == "BLAT_ECOLX_Stiffler_2015"]
    rows = published("dms_blat")
    assert {n: rows[n].value for n in names} == {n: float(scores[c]) for n, c in names.items()}


def test_effect_predictors_on_exactly_the_items_of_brca1(biofm_data):
    columns = {
        "CADD": "CADD.score",
        "phyloP": "phyloP (mammalian)",
        "SIFT": "sift",
        "PolyPhen-2": "polyphen2",
    }
    names, what, lost, *scores = read_sheet(
        biofm_data / SHEET,
        HEADER,
        ("transcript_variant", "consequence", "func.class", *columns.values()),
    )
    place = {name: i for i, name in enumerate(names) if what[i] == "Missense"}
    data = get_task("brca1/missense_lof").data(biofm_data)
    index = [place[name.split()[1]] for name in data.tested.ids]
    rows = published("brca1/missense_lof")
    for name, cells in zip(columns, scores):
        values = np.array([float(cells[i]) for i in index])
        area = roc_auc_score(data.tested.targets[:, 0], values)
        assert rows[name].value == round(max(area, 1 - area), 3)
    # And on all 3,893 changes, as reported with the data.
    failed = np.array([name == "LOF" for name in lost])
    assert round(roc_auc_score(failed, [float(cell) for cell in scores[0]]), 3) == 0.804
    assert round(roc_auc_score(failed, [float(cell) for cell in scores[1]]), 3) == 0.781


def test_hint_on_exactly_the_items_of_its_trials(biofm_data):
    released = {row["nctid"]: float(row["prediction"]) for row in table(biofm_data / HINT)}
    tested = get_task("trial/phase1").data(biofm_data).tested
    assert set(released) == set(tested.ids)
    predicted = np.array([[released[name]] for name in tested.ids])
    for task in ("trial/phase1", "trial/phase1_auprc"):
        row = published(task)["HINT"]
        value = metric_value(get_task(task).metric, tested.targets, predicted)
        assert row.comparable and row.value == round(value, 3)
    assert round(f1_score(tested.targets, predicted >= 0.5), 3) == 0.663
    assert round(accuracy_score(tested.targets, predicted >= 0.5), 3) == 0.557


def test_every_published_row_says_where_and_what_is_not_the_same():
    for task in all_tasks().values():
        names = [row.name for row in task.published]
        assert len(names) == len(set(names)), task.name
        for row in task.published:
            assert row.source and (row.comparable or row.note), (task.name, row.name)
