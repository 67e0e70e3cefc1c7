"""Tasks of drug repurposing: which drug treats which disease.

repurposing/*: PharmacotherapyDB (Himmelstein et al. 2017, eLife 6:e26726): 755 pairs of a drug
and a disease that it modifies (DM), 390 of a drug that treats symptoms (SYM) and 243 that a
resource lists and physicians rejected (NOT: no indication; contra-indications are not among the
data). Licences are mixed: the compilation is CC0, and of its sources MEDI and PREDICT are CC
BY-NC-SA, DrugBank's targets CC BY-NC, SIDER CC BY-NC-SA: to compare with, not to sell.

The text of an item is "Compound::ID Disease::ID", the names of nodes in Hetionet. Items are the
29,799 pairs of the 387 drugs and 77 diseases that have a DM pair, those that Rephetio was trained
on: with any other drug or disease the prior would have 183,000 zeros for granted. Label 1 is DM;
as published, all other pairs are 0, SYM and NOT among them; `repurposing/hetionet_not` asks DM
against NOT alone.

What may be learned from is the graph less every edge between a compound and a disease
(`data.knowledge_graph.answers_removed`) and the training pairs.

Published. Over the 1,538 compounds and 136 diseases that Hetionet links the degree prior has AUROC
.979 and AUPRC .163, Rephetio .974 and .382; the prior knows the degrees that the tested pairs
themselves make. From these files, over as many pairs, 400 permutations of the 755 edges give .9792
and .1625, and the product of the degrees .9792 and .1601: the figure is that of drugs and diseases
without an indication. Over the 29,799 pairs the same product has .851 and .160, Rephetio .951 and
.590. With the degrees of the training folds alone it is .652 and .079, as here: no row is
comparable. Where whole diseases or areas are held out, drugs of the tested ones have lost just
those degrees, and the prior falls to chance and below.
"""

import csv
import gzip
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.data.knowledge_graph import KnowledgeGraph, answers_removed
from biofm_jax.data.knowledge_graph_readers import read_hetionet
from biofm_jax.errors import UserError
from biofm_jax.evaluate.disease_areas import disease_area
from biofm_jax.evaluate.split_groups import group_folds
from biofm_jax.evaluate.splits import Fold, random_folds
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

FOLDER = "drug/repurposing_hetionet"
CATEGORIES = ("DM", "SYM", "NOT")
FOLDS = 5
DRUG, DISEASE, TREATS = "Compound", "Disease", "CtD"
FIGURES = f"dhimmel/learn @ 185310a, prediction/predictions/performance.tsv ({FOLDER})"


def load_hetionet(root: Path | None) -> KnowledgeGraph:
    """Hetionet's cut of at most 5,000 edges of each type, without what is to be predicted.

    Raises:
        UserError: a file is missing or has a bad line.
    """
    files = (data_file(root, f"{FOLDER}/{name}") for name in ("nodes.tsv.gz", "edges-5k.sif.gz"))
    return answers_removed(read_hetionet(*files)[0], DRUG, DISEASE)


def load_indications(root: Path | None) -> dict[tuple[str, str], str]:
    """(compound node, disease node) -> DM, SYM or NOT.

    Raises:
        UserError: a file is missing, a category is another, or a pair is listed twice.
    """
    path = data_file(root, f"{FOLDER}/pharmacotherapydb_indications.tsv")
    found: dict[tuple[str, str], str] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for line, row in enumerate(csv.DictReader(lines, delimiter="\t"), start=2):
            pair = f"{DRUG}::{row['drugbank_id']}", f"{DISEASE}::{row['doid_id']}"
            if row["category"] not in CATEGORIES or pair in found:
                raise UserError(
                    f"{path}, line {line}: category {row['category']!r} of {' '.join(pair)}; one "
                    f"of {', '.join(CATEGORIES)} is wanted, once for each pair: fetch it again"
                )
            found[pair] = row["category"]
    return found


def all_pairs(root: Path | None) -> Dataset:
    """The 29,799 pairs; five folds over the DM pairs and over the others."""
    items, areas = _pairs(root)
    return _dataset(items, areas, _stratified(items.targets[:, 0]))


def disease_wise(root: Path | None) -> Dataset:
    """The same items; the diseases of a fold have no training pair."""
    items, areas = _pairs(root)
    diseases = [text.split()[1] for text in items.texts]
    return _dataset(items, areas, group_folds(diseases, FOLDS, seed=0))


def area_wise(root: Path | None) -> Dataset:
    """The same items; a fold tests one disease area and validates on the next."""
    items, areas = _pairs(root)
    names = sorted(set(areas))
    area = np.array(areas)
    folds = []
    for place, name in enumerate(names):
        following = names[(place + 1) % len(names)]
        folds.append(Fold.from_labels(np.select(
            [area == name, area == following], ["test", "valid"], "train")))  # fmt: skip
    return _dataset(items, areas, tuple(folds))


def curated_pairs(root: Path | None) -> Dataset:
    """The pairs that a resource lists: DM (1) against NOT (0)."""
    pairs = {pair: kind for pair, kind in load_indications(root).items() if kind != "SYM"}
    texts = tuple(" ".join(pair) for pair in sorted(pairs))
    targets = np.array([[float(pairs[pair] == "DM")] for pair in sorted(pairs)])
    names = _disease_names(root)
    areas = [disease_area(disease, names[disease]) for _, disease in sorted(pairs)]
    return _dataset(Labelled(texts, texts, targets), areas, _stratified(targets[:, 0]))


def _pairs(root: Path | None) -> tuple[Labelled, list[str]]:
    known = load_indications(root)
    names = _disease_names(root)
    treated = [pair for pair, kind in known.items() if kind == "DM"]
    drugs, diseases = (sorted({pair[side] for pair in treated}) for side in (0, 1))
    pairs = [(drug, disease) for drug in drugs for disease in diseases]
    texts = tuple(f"{drug} {disease}" for drug, disease in pairs)
    targets = np.array([[float(known.get(pair) == "DM")] for pair in pairs])
    area = {disease: disease_area(disease, names[disease]) for disease in diseases}
    return Labelled(texts, texts, targets), [area[disease] for _, disease in pairs]


def _disease_names(root: Path | None) -> dict[str, str]:
    """Node -> name of Hetionet's diseases."""
    path = data_file(root, f"{FOLDER}/nodes.tsv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["id"]: row["name"] for row in rows if row["kind"] == DISEASE}


def _dataset(items: Labelled, areas: list[str], folds: tuple[Fold, ...]) -> Dataset:
    return Dataset(items, folds, ("treats",), groups={"disease area": areas})


def _stratified(labels: np.ndarray) -> tuple[Fold, ...]:
    """Five folds with equal shares of the positive pairs."""
    parts = [np.flatnonzero(labels == value) for value in (1, 0)]
    cut = [random_folds(len(part), FOLDS, seed=0) for part in parts]
    return tuple(
        Fold(*(
            np.sort(np.concatenate([part[getattr(fold, name)] for part, fold in zip(parts, both)]))
            for name in ("train", "valid", "test")
        ))
        for both in zip(*cut)
    )  # fmt: skip


def _published(column: int) -> tuple[Published, ...]:
    seen = "trained and ranked with all 755 pairs"
    wide = f"{seen}, over 1,538 x 136 pairs"
    return (
        Published("Rephetio", (0.951, 0.590)[column], FIGURES, False, seen),
        Published("Rephetio, all pairs", (0.974, 0.382)[column], FIGURES, False, wide),
        Published("degree prior, all pairs", (0.979, 0.163)[column], FIGURES, False, wide),
    )


def _task(name, data, split, metric="auroc", published=()) -> Task:
    return Task(
        name=f"repurposing/{name}",
        modality="knowledge_graph",
        data=data,
        split=split,
        metric=metric,
        unit="",
        baselines=("degree_prior",),
        published=published,
    )


RANDOM = "5 folds at random over the 755 DM pairs and over all other pairs; the next validates"
DISEASES = "5 folds of whole diseases; the next validates"
WHOLE_AREAS = "each disease area is tested once; the next validates"
TASKS = (
    _task("hetionet", all_pairs, RANDOM, published=_published(0)),
    _task("hetionet_auprc", all_pairs, RANDOM, "auprc", _published(1)),
    _task("hetionet_disease", disease_wise, DISEASES),
    _task("hetionet_disease_auprc", disease_wise, DISEASES, "auprc"),
    _task("hetionet_area", area_wise, WHOLE_AREAS),
    _task("hetionet_not", curated_pairs, "5 folds at random over 755 DM and 243 NOT pairs"),
)
