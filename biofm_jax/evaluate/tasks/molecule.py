"""Molecule tasks: properties from SMILES, on the deterministic Bemis-Murcko scaffold split.

| task | label column | label |
|---|---|---|
| bbbp | `p_np` | 1 = crosses the blood-brain barrier |
| bace | `Class` | 1 = inhibits beta-secretase 1 |
| esol | `logSolubility` | water solubility, log10 mol/L |
| freesolv | `freesolv` | hydration free energy, kcal/mol |
| lipophilicity | `lipo` | octanol/water distribution at pH 7.4, logD |
| quickstart/tpsa | | topological polar surface area, square angstrom |

The first five are MoleculeNet's (Wu et al. 2018, Chem Sci 9:513); a blank label is missing;
the files are those of github.com/tencent-ailab/grover (MIT).
The last is a test file of rdkit: 5,000 molecules of the NCI with areas by Ertl's contributions
(BSD-3-Clause).

Other splits of the same sets are in `molecule_splits`, sets of many labels in `molecule_assays`.

Groups: the scaffold, which the split keeps on one side, and three bands of molecular weight
(average isotopic, g/mol), each of a third of the task's molecules.
"""

import functools
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.grouping import bands
from biofm_jax.evaluate.labels import numbers, read_columns
from biofm_jax.evaluate.molecules import molecular_weights, require_rdkit
from biofm_jax.evaluate.split_clusters import cluster_split
from biofm_jax.evaluate.splits import Fold, random_split, scaffold_split, scaffolds
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

SPLITS: dict[str, Callable[[Sequence[str]], Fold]] = {
    "scaffold": scaffold_split,
    "random": lambda smiles: random_split(len(smiles)),
    "cluster": cluster_split,
}
# Solubility and the like follow from size, polarity and logP, which descriptors hold.
PHYSICAL = {"rmse": ("descriptor_forest",)}
SPLIT_NAMES = {
    "scaffold": "Bemis-Murcko scaffold 80/10/10, deterministic (DeepChem's order)",
    "random": "random 80/10/10, seed 0",
    "cluster": "Butina clusters of ECFP4, distance 0.6, 80/10/10, deterministic",
}
OTHER_SCAFFOLD = "npj Artif. Intell. 2025, s44387-025-00029-3, Table 1"
RANDOM = "J. Cheminform. 2020, s13321-020-00479-8, Table 6"


def load_moleculenet(
    root: Path | None, file: str, smiles: str, labels: tuple[str, ...], split: str = "scaffold"
) -> Dataset:
    """A MoleculeNet set.

    Args:
        root: as of `Task.data`.
        file: its name, without endings.
        smiles: column of the molecules.
        labels: columns of the labels; a blank cell is missing.
        split: a key of `SPLITS`.
    """
    path = data_file(root, f"drug/moleculenet/{file}.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts, *cells = read_columns(lines, str(path), (smiles, *labels))
    columns = [numbers(column, str(path), name) for column, name in zip(cells, labels)]
    return labelled_molecules(texts, np.stack(columns, axis=1), file, labels, split)


def load_tpsa(root: Path | None) -> Dataset:
    """The molecules in rdkit's wheel; `root` is not needed."""
    require_rdkit()
    from rdkit import RDConfig

    path = Path(RDConfig.RDDataDir) / "NCI" / "first_5k.tpsa.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist: install rdkit from its wheel (pip install rdkit)")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    texts, cells = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    areas = numbers(list(cells), str(path), "TPSA")[:, None]
    return labelled_molecules(texts, areas, "nci", ("TPSA",), "scaffold")


def labelled_molecules(
    texts: Sequence[str],
    labels: np.ndarray,
    name: str,
    columns: tuple[str, ...],
    split: str | Callable[[np.ndarray], Fold],
) -> Dataset:
    """Drop, by name, what rdkit cannot parse; split the rest.

    Args:
        texts: n SMILES.
        labels: (n, k), nan = missing.
        name: what ids begin with.
        columns: k names.
        split: a key of `SPLITS`, or a function of the indices of the molecules that are kept.
    """
    chem = require_rdkit()
    parsable = [chem.MolFromSmiles(text) is not None for text in texts]
    kept = np.flatnonzero(parsable)
    dropped = tuple(
        f"{name}, record {i + 1}: rdkit cannot parse {texts[i]!r}"
        for i in np.flatnonzero(np.logical_not(parsable))
    )
    smiles = tuple(texts[i] for i in kept)
    ids = tuple(f"{name}-{i + 1}" for i in kept)
    groups = {"molecular weight (g/mol)": bands(molecular_weights(smiles))}
    if split == "scaffold":
        # Molecules without a ring are one set of the split.
        rings = {"scaffold": [scaffold or "no ring" for scaffold in scaffolds(smiles)]}
        groups = rings | groups
    return Dataset(
        Labelled(ids, smiles, labels[kept]),
        (SPLITS[split](smiles) if isinstance(split, str) else split(kept),),
        columns,
        dropped=dropped,
        groups=groups,
        apart=("scaffold",) if split == "scaffold" else (),
    )


def _published(values, source: str, note: str, comparable: bool = False) -> tuple[Published, ...]:
    return tuple(Published(name, value, source, comparable, note) for name, value in values.items())


def moleculenet_task(name, file, columns, metric, unit, published, split="scaffold") -> Task:
    """A task of a MoleculeNet set; `columns` are the molecules' and the labels'."""
    smiles, *labels = columns
    given = {"file": file, "smiles": smiles, "labels": tuple(labels), "split": split}
    return Task(
        name=name,
        modality="molecule",
        data=functools.partial(load_moleculenet, **given),
        split=SPLIT_NAMES[split],
        metric=metric,
        unit=unit,
        baselines=("ecfp4_forest", "letter_counts", *PHYSICAL.get(metric, ())),
        published=published,
    )


def scaffold_table(*values: float) -> tuple[Published, ...]:
    """ROC-AUC of `OTHER_SCAFFOLD`."""
    names = ("MolCLR", "GROVER-base", "GROVER-large", "GEM", "MoLFormer", "MoLFormer from scratch")
    note = "a scaffold split, but not the deterministic one"
    return _published(dict(zip(names, values, strict=True)), OTHER_SCAFFOLD, note)


def random_table(*values: float, comparable: bool = False) -> tuple[Published, ...]:
    """RMSE of `RANDOM`, mean over 50 random splits; comparable with a task on such a one."""
    names = ("SVM", "XGBoost", "random forest", "GCN", "Attentive FP")
    note = "mean over 50 draws of the split" if comparable else "random split"
    return _published(dict(zip(names, values)), RANDOM, note, comparable)


TASKS = (
    moleculenet_task(
        "bbbp",
        "bbbp",
        ("smiles", "p_np"),
        "auroc",
        "",
        scaffold_table(0.9307, 0.9022, 0.8861, 0.9103, 0.9037, 0.8636),
    ),
    moleculenet_task(
        "bace",
        "bace",
        ("mol", "Class"),
        "auroc",
        "",
        scaffold_table(0.7873, 0.7700, 0.7795, 0.8603, 0.8275, 0.7728),
    ),
    moleculenet_task(
        "esol",
        "esol",
        ("smiles", "logSolubility"),
        "rmse",
        "log10 mol/L",
        random_table(0.569, 0.582, 0.663, 0.708, 0.587),
    ),
    moleculenet_task(
        "freesolv",
        "freesolv",
        ("smiles", "freesolv"),
        "rmse",
        "kcal/mol",
        random_table(0.852, 1.025, 1.143, 1.149, 1.091),
    ),
    moleculenet_task(
        "lipophilicity",
        "lipo",
        ("smiles", "lipo"),
        "rmse",
        "logD",
        random_table(0.577, 0.574, 0.659, 0.664),
    ),
    Task(
        name="quickstart/tpsa",
        modality="molecule",
        data=load_tpsa,
        split=SPLIT_NAMES["scaffold"],
        metric="rmse",
        unit="Å²",
        baselines=("ecfp4_ridge", "letter_counts"),
    ),
)
