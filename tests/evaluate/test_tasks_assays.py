import csv
import dataclasses
import gzip
import io

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines_descriptors import descriptor_forest, descriptors
from biofm_jax.evaluate.metrics import metric_value
from biofm_jax.evaluate.molecules import molecular_weights
from biofm_jax.evaluate.record import Contender
from biofm_jax.evaluate.run import evaluate
from biofm_jax.evaluate.task import get_task
from biofm_jax.evaluate.tasks.molecule_assays import TOX21, load_chembl_time


def table(root, path, header, rows):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(gzip.compress(text.getvalue().encode()))


@pytest.fixture
def chembl(tmp_path):
    """Three targets: A has labels everywhere, B too few to test on, C too few to learn from."""
    rows = {"train": 6, "valid": 2, "test": 4}
    for offset, (part, count) in enumerate(rows.items()):
        lines = [
            ["C" * (2 + i + 10 * offset) + "N", f"{5 + 0.5 * i}",
             "6.5" if i < 1 or part == "train" else "", "" if part == "train" else "7"]
            for i in range(count)
        ]  # fmt: skip
        lines += [["O" * (offset + 1) + "C", "", "", ""]]  # without a label
        if part == "train":
            lines += [["CCO", "", "6.1", ""], ["c1cc", "5", "", ""]]
        path = f"drug/chembl_timesplit/chembl_5thresh_ts_{part}.csv.gz"
        table(tmp_path, path, ["smiles", "A", "B", "C"], lines)
    return tmp_path


def test_chembl_keeps_targets_with_enough_labels_and_the_years(chembl):
    data = load_chembl_time(chembl, fewest=3)
    assert data.columns == ("A",) and data.items.targets.shape == (12, 1)
    fold = data.folds[0]
    assert [len(part) for part in (fold.train, fold.valid, fold.test)] == [6, 2, 4]
    assert data.items.texts[fold.test[0]] == "C" * 22 + "N"
    assert len(data.dropped) == 1 and "c1cc" in data.dropped[0]
    data = load_chembl_time(chembl, fewest=1)
    assert data.columns == ("A", "B") and np.isnan(data.items.targets).sum() == 5
    with pytest.raises(UserError, match="no target of chembl_time has 50 labels"):
        load_chembl_time(chembl)


def test_a_missing_file_of_a_part_is_named(chembl):
    (chembl / "drug/chembl_timesplit/chembl_5thresh_ts_valid.csv.gz").unlink()
    with pytest.raises(UserError, match=r"chembl_5thresh_ts_valid.*chembl_timesplit. brings it"):
        load_chembl_time(chembl)


RINGS = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "C1CCNCC1", "c1ccsc1", "c1ccoc1")


@pytest.fixture
def tox21(tmp_path):
    """60 molecules; the label of each assay is whether there is a fluorine, a third is missing."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(60):
        active = int(rng.integers(2))
        labels = np.where(rng.random(12) < 0.35, "", str(active))
        lines.append(["F" * active + "C" * (1 + i % 10) + RINGS[i // 10], *labels])
    table(tmp_path, "drug/moleculenet/tox21.csv.gz", ["smiles", *TOX21], lines)
    return tmp_path


def test_several_labels_are_learned_and_judged_where_they_are_known(tox21, tmp_path, monkeypatch):
    task = get_task("tox21")
    data = task.data(tox21)
    missing = np.isnan(data.items.targets)
    assert data.items.targets.shape == (60, 12) and 0.2 < missing.mean() < 0.5
    assert data.columns == TOX21 and data.apart == ("scaffold",)
    known = []

    def adapter(train, valid, test, seed):
        known.append(np.isnan(train.targets))
        return np.array([["F" in text] * 12 for text in test.texts], float)

    monkeypatch.setattr("biofm_jax.evaluate.run.baseline_results", lambda *a, **o: [])
    contender = Contender("perfect", "probe", adapter, None)
    row = evaluate(task, contender, seeds=[0], out=tmp_path / "out", dataset=data)
    assert row.value.score.value == 1.0
    assert (known[0] == missing[data.folds[0].train]).all()
    truth = data.tested.targets
    guess = np.where(np.isnan(truth), 1e6, truth)  # where no label is known anything goes
    assert metric_value("auroc", truth, guess) == 1.0


def test_other_splits_have_their_names_and_comparable_figures(biofm_data):
    random, cluster = (get_task(f"esol/{split}") for split in ("random", "cluster"))
    assert random.published and all(row.comparable for row in random.published)
    assert not any(row.comparable for row in get_task("esol").published)
    parts = [task.data(biofm_data).folds[0] for task in (random, cluster)]
    assert all((len(f.train), len(f.valid), len(f.test)) == (902, 113, 113) for f in parts)
    assert cluster.data(biofm_data).apart == () and "Butina" in cluster.split


def test_descriptors_tell_what_fingerprints_do_not(monkeypatch):
    """The label is a descriptor: the molar mass of chains, longer ones tested."""
    texts = ["C" * n + "O" * (n % 3) for n in range(2, 62)]
    monkeypatch.setattr("biofm_jax.evaluate.baselines_descriptors.TREES", 30)
    weights = molecular_weights(texts)[:, None]
    whole = Labelled(tuple(map(str, range(60))), tuple(texts), weights)
    train, test = whole.at(np.arange(0, 60, 2)), whole.at(np.arange(1, 60, 2))
    guess = descriptor_forest(train, train.at(np.arange(0)), test.without_targets(), 0)
    assert guess.shape == (30, 1)
    assert np.abs(guess - test.targets).mean() < 0.1 * weights.std()
    values = descriptors(["C", "[Na+].[Cl-]", "C" * 80])
    assert values.shape[1] > 150 and np.isfinite(values).all()
    known = np.where(weights[::2] > 300, np.nan, 1)
    both = dataclasses.replace(train, targets=np.c_[train.targets, known])
    assert (descriptor_forest(both, train, test, 0)[:, 1] == 1).all()
