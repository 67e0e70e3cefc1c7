import csv
import gzip
import shutil

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines_graph import degree_prior
from biofm_jax.evaluate.disease_areas import AREAS, disease_area
from biofm_jax.evaluate.task import get_task
from biofm_jax.evaluate.tasks.knowledge_graph import FOLDER, load_hetionet, load_indications


@pytest.fixture(scope="module")
def pairs(biofm_data):
    return get_task("repurposing/hetionet").data(biofm_data)


def edges(root):
    with gzip.open(root / FOLDER / "edges-5k.sif.gz", "rt") as lines:
        return [tuple(line.rstrip("\n").split("\t")) for line in lines][1:]


def test_the_pairs_are_those_of_rephetio(biofm_data, pairs):
    """755 and 29,044 as in the published file; a rejected or palliative pair is a 0."""
    with (biofm_data / FOLDER / "rephetio_performance.tsv").open() as lines:
        table = list(csv.DictReader(lines, delimiter="\t"))
    rows = {(row["y_true_var"], row["y_pred_var"]): row for row in table}
    row = rows["status", "training_prediction"]
    labels = pairs.items.targets[:, 0]
    assert (labels.sum(), (1 - labels).sum()) == (int(row["n_pos"]), int(row["n_neg"]))
    treated = {f"{h} {t}" for h, kind, t in edges(biofm_data) if kind == "CtD"}
    assert {text for text, label in zip(pairs.items.texts, labels) if label} == treated
    kinds = list(load_indications(biofm_data).values())
    assert [kinds.count(kind) for kind in ("DM", "SYM", "NOT")] == [755, 390, 243]


def test_the_published_prior_is_reproduced(pairs):
    """Over 1,538 x 136 pairs, those without an indication having the prior 0: .979 and .163."""
    labels, texts = pairs.items.targets[:, 0], [text.split() for text in pairs.items.texts]
    ends = [np.unique(side, return_inverse=True)[1] for side in zip(*texts)]
    degrees = [np.bincount(end, labels)[end] for end in ends]
    rest = np.zeros(1538 * 136 - len(labels))
    truth, prior = np.append(labels, rest), np.append(degrees[0] * degrees[1], rest)
    assert roc_auc_score(truth, prior) == pytest.approx(0.97917, abs=5e-5)
    assert average_precision_score(truth, prior) == pytest.approx(0.1601, abs=5e-4)
    own = degree_prior(pairs.items, pairs.items, pairs.items, 0)[:, 0]
    assert roc_auc_score(labels, own) == pytest.approx(0.8505, abs=5e-4)


def test_the_prior_of_a_fold_knows_only_its_training_pairs(pairs):
    honest = pairs.predict_tested(degree_prior, 0)
    assert roc_auc_score(pairs.tested.targets, honest) == pytest.approx(0.652, abs=5e-3)
    fold = pairs.folds[0]
    train, valid, test = (pairs.part(i) for i in (fold.train, fold.valid, fold.test))
    blind = degree_prior(train, valid, test.without_targets(), 0)
    np.testing.assert_array_equal(blind, degree_prior(train, test, test, 0))


def test_the_prior_by_hand():
    def labelled(*texts, ones=()):
        return Labelled(texts, texts, np.array([[float(text in ones)] for text in texts]))

    train = labelled("a x", "a y", "b x", "b y", ones=("a x", "a y", "b x"))
    found = degree_prior(train, train, labelled("a x", "b y", "c x"), 0)[:, 0]
    odds = found / (1 - found)
    np.testing.assert_allclose(odds, [2 * 2 / 3, 1 / 3, 0.1 * 2 / 3])


@pytest.mark.parametrize("name, side", [("disease", 1), ("area", None)])
def test_what_is_held_out_has_no_training_pair(biofm_data, name, side):
    data = get_task(f"repurposing/hetionet_{name}").data(biofm_data)
    of = data.groups["disease area"] if side is None else [t.split()[1] for t in data.items.texts]
    of = np.array(of)
    for fold in data.folds:
        assert data.items.targets[fold.test].sum() > 10
        assert not set(of[fold.test]) & (set(of[fold.train]) | set(of[fold.valid]))
    assert len(data.tested_rows) == len(data.items) == 29_799


def test_folds_have_equal_shares(pairs, biofm_data):
    assert [pairs.items.targets[fold.test].sum() for fold in pairs.folds] == [151] * 5
    curated = get_task("repurposing/hetionet_not").data(biofm_data)
    assert len(curated.items) == 998 and curated.items.targets.sum() == 755


@pytest.mark.parametrize(
    "leak", ["", "Compound::{c}\tCpD\tDisease::{d}", "Disease::{d}\ttreated by\tCompound::{c}"]
)
def test_no_answer_is_left_in_the_graph(biofm_data, tmp_path, leak):
    """Nor would one be that stands there under another name, or backwards."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    shutil.copy(biofm_data / FOLDER / "nodes.tsv.gz", folder)
    kept = [edge for edge in edges(biofm_data) if edge[1] in ("CtD", "CpD", "CrC", "DaG")]
    lines = ["\t".join(edge) for edge in kept]
    if leak:
        lines.append(leak.format(c="DB01048", d="DOID:10763"))
    text = "\n".join(["source\tmetaedge\ttarget", *lines]) + "\n"
    (folder / "edges-5k.sif.gz").write_bytes(gzip.compress(text.encode()))
    graph = load_hetionet(tmp_path)
    names = {"CtD", "CpD", "CrC", "DaG"} | ({"treated by"} if "treated by" in leak else set())
    assert {relation.name for relation in graph.relations} == names
    types = np.array(graph.types)[graph.node_type[graph.triples[:, [0, 2]]]]
    assert not any({"Compound", "Disease"} == set(ends) for ends in types.tolist())
    assert len(graph.triples) == 10_000


def test_a_strange_category_is_refused(biofm_data, tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    text = (biofm_data / FOLDER / "pharmacotherapydb_indications.tsv").read_text()
    (folder / "pharmacotherapydb_indications.tsv").write_text(text.replace("\tDM\t", "\tDMX\t", 1))
    with pytest.raises(UserError, match="line 2: category 'DMX'"):
        load_indications(tmp_path)


def test_areas():
    numbers = [number for held in AREAS.values() for number in held.split()]
    assert len(numbers) == len(set(numbers))
    assert disease_area("Disease::DOID:10763", "hypertension") == "cardiovascular"
    assert disease_area("Disease::DOID:1324", "lung cancer") == "cancer"
    assert disease_area("Disease::DOID:1686", "glaucoma") == "other"
