"""Tasks of drug-target affinity: how strongly a kinase inhibitor binds a kinase.

- affinity/davis: 68 inhibitors x 442 kinases, all 30,056 pairs (Davis et al. 2011, doi
  10.1038/nbt.1990). The label is pKd = -log10(Kd / 1 M), from Kd in nM; 5 (10 uM) stands for no
  binding seen, 70 % of the pairs.
- affinity/kiba: 2,111 compounds x 229 kinases, 118,254 pairs that were measured (Tang et al. 2014,
  doi 10.1021/ci400709d, as cut by He et al. 2017): the KIBA score, of several assays, higher =
  stronger.

Files and folds are DeepDTA's (github.com/hkmztrk/DeepDTA, no licence file). Official fold: the
test fold is theirs, the first four of its five training folds train and the last validates. The
text of an item is its SMILES, a blank, and the protein's sequence.

Without mutations and stereochemistry, as in the files, Davis' 442 kinases have 379 different
sequences (15 kinases are ABL1 or its mutants, of one sequence), and KIBA's 2,111 compounds 2,068
different SMILES. So the official folds hold the same text in training and test: the leak report
counts it. The cold splits go by SMILES and by sequence: whole groups at random (seed 0), 70 % of
the pairs train, 10 % validate, 20 % test.

Intervals are over pairs. Those of one drug or target are alike, so for the cold splits, with 14
drugs or 76 sequences to test in Davis, they are too narrow.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.data.affinity import Affinities, read_affinities
from biofm_jax.errors import UserError
from biofm_jax.evaluate.canonical import canonical_protein, canonical_smiles
from biofm_jax.evaluate.split_groups import group_split
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

MATRIX = {
    "davis": "drug-target_interaction_affinities_Kd__Davis_et_al.2011v1.txt.gz",
    "kiba": "kiba_binding_affinity_v2.txt.gz",
}
LABEL = {"davis": "pKd", "kiba": "KIBA score"}
NO_BINDING = 5.0  # pKd of the highest concentration of the assay, 10 uM
TABLES = "PMC8768884 Table 3 and PMC10179712 Table 2"
UNSEEN = "npj Digit. Med. 2025, s41746-025-01464-x, Table 2"


def load_affinities(root: Path | None, name: str) -> Affinities:
    """The files of `davis` or `kiba`.

    Raises:
        UserError: a file is missing or damaged.
    """
    folder = f"drug/dti_{name}"
    files = (MATRIX[name], "ligands_can.txt.gz", "proteins.txt.gz")
    folds = ("folds/train_fold_setting1.txt.gz", "folds/test_fold_setting1.txt.gz")
    return read_affinities(*(data_file(root, f"{folder}/{file}") for file in (*files, *folds)))


def load_pairs(root: Path | None, name: str, split: str) -> Dataset:
    """A set with its official fold ("official"), or with whole drugs or targets held out
    ("cold_drug", "cold_target").

    Raises:
        UserError: a file is missing or damaged, rdkit is missing, or a Kd is not positive.
    """
    found = load_affinities(root, name)
    values = found.values if name == "kiba" else _p_kd(found.values)
    drugs = [canonical_smiles(text) for text in found.smiles]
    groups = {
        "drug": [drugs[i] for i in found.drug.tolist()],
        "target": [canonical_protein(found.sequences[j]) for j in found.target.tolist()],
    }
    if split == "official":
        *train, valid = found.train
        folds = (Fold(np.sort(np.concatenate(train)), np.sort(valid), np.sort(found.test)),)
        apart = ()
    else:
        apart = (split.removeprefix("cold_"),)
        folds = (group_split(groups[apart[0]], 0.7, 0.1, seed=0),)
    kept = {key: [_short(cell) for cell in groups[key]] for key in apart}
    if name == "davis":
        seen = values > NO_BINDING
        kept["binding"] = np.where(seen, "Kd below 10 uM", "none seen at 10 uM").tolist()
    return Dataset(
        Labelled(found.ids(), found.texts(), values[:, None]),
        folds,
        (LABEL[name],),
        groups=kept,
        apart=apart,
    )


def _p_kd(kd: np.ndarray) -> np.ndarray:
    """-log10 of dissociation constants in nM, over 1 M.

    Raises:
        UserError: one is not positive.
    """
    if not (kd > 0).all():
        raise UserError(f"pair {int(np.argmin(kd))} has a Kd of {kd.min():g} nM; above 0 is wanted")
    return 9.0 - np.log10(kd)


@functools.cache
def _short(text: str) -> str:
    """A long sequence by its ends, length and hash."""
    if len(text) <= 60:
        return text
    import hashlib

    return f"{text[:12]}...{len(text)}, {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _rows(values: dict[str, tuple[float, float]], column: int) -> tuple[Published, ...]:
    note = "official fold; of five models, each trained on four of the training folds, or on all"
    return tuple(Published(name, row[column], TABLES, True, note) for name, row in values.items())


# MSE, C-index.
PUBLISHED = {
    "davis": {
        "KronRLS": (0.379, 0.871),
        "SimBoost": (0.282, 0.872),
        "DeepDTA": (0.261, 0.878),
        "WideDTA": (0.262, 0.886),
        "GraphDTA (GIN)": (0.229, 0.893),
        "random forest (ECFP, PSC)": (0.359, 0.854),
        "feed-forward network": (0.244, 0.893),
        "MGraphDTA": (0.207, 0.900),
        "MSGNN-DTA": (0.195, 0.906),
    },
    "kiba": {
        "KronRLS": (0.411, 0.782),
        "SimBoost": (0.222, 0.836),
        "DeepDTA": (0.194, 0.863),
        "WideDTA": (0.179, 0.875),
        "GraphDTA (GAT-GCN)": (0.139, 0.891),
        "MGraphDTA": (0.128, 0.902),
        "MSGNN-DTA": (0.117, 0.908),
    },
}
COLD_CINDEX = {
    "cold_drug": {"GraphDTA": 0.713, "DMFF": 0.753},
    "cold_target": {"GraphDTA": 0.610, "DMFF": 0.748},
}
SPLITS = {
    "official": "DeepDTA setting 1: four training folds train, the fifth validates, the test fold",
    "cold_drug": "whole drugs by SMILES 70/10/20, seed 0",
    "cold_target": "whole targets by sequence 70/10/20, seed 0",
}


def _published(name: str, split: str, metric: str) -> tuple[Published, ...]:
    if split == "official":
        return _rows(PUBLISHED[name], int(metric == "cindex"))
    if name == "kiba" and metric == "cindex":
        note = "another draw of unseen drugs or targets"
        rows = COLD_CINDEX[split].items()
        return tuple(Published(model, value, UNSEEN, False, note) for model, value in rows)
    return ()


def _task(name: str, split: str, metric: str) -> Task:
    middle = "" if split == "official" else f"_{split}"
    data: Callable = functools.partial(load_pairs, name=name, split=split)
    return Task(
        name=f"affinity/{name}{middle}{'_cindex' if metric == 'cindex' else ''}",
        modality="affinity",
        data=data,
        split=SPLITS[split],
        metric=metric,
        unit="" if metric == "cindex" else f"{LABEL[name]} squared",
        baselines=("additive_means", "kronecker_ridge"),
        published=_published(name, split, metric),
    )


TASKS = tuple(
    _task(name, split, metric)
    for name in MATRIX
    for split in SPLITS
    for metric in ("mse", "cindex")
)
