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

Groups: the scaffold, which the split keeps on one side, and three bands of molecular weight
(average isotopic, g/mol), each of a third of the task's molecules.
"""

import functools
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.grouping import bands
from biofm_jax.evaluate.labels import numbers, read_columns
from biofm_jax.evaluate.molecules import molecular_weights, require_rdkit
from biofm_jax.evaluate.splits import scaffold_split, scaffolds
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

SPLIT = "Bemis-Murcko scaffold 80/10/10, deterministic (DeepChem's order)"
OTHER_SCAFFOLD = "npj Artif. Intell. 2025, s44387-025-00029-3, Table 1"
RANDOM = "J. Cheminform. 2020, s13321-020-00479-8, Table 6"


def load_moleculenet(root: Path | None, file: str, smiles: str, label: str) -> Dataset:
    """A MoleculeNet set of one label column."""
    path = data_file(root, f"drug/moleculenet/{file}.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts, cells = read_columns(lines, str(path), (smiles, label))
    return _on_scaffolds(texts, numbers(cells, str(path), label), file, label)


def load_tpsa(root: Path | None) -> Dataset:
    """The molecules in rdkit's wheel; `root` is not needed."""
    require_rdkit()
    from rdkit import RDConfig

    path = Path(RDConfig.RDDataDir) / "NCI" / "first_5k.tpsa.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist: install rdkit from its wheel (pip install rdkit)")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    texts, cells = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    return _on_scaffolds(texts, numbers(list(cells), str(path), "TPSA"), "nci", "TPSA")


def _on_scaffolds(texts: Sequence[str], labels: np.ndarray, name: str, column: str) -> Dataset:
    """Drop, by name, what rdkit cannot parse; split the rest by scaffold."""
    chem = require_rdkit()
    parsable = [chem.MolFromSmiles(text) is not None for text in texts]
    kept = np.flatnonzero(parsable)
    dropped = tuple(
        f"{name}, record {i + 1}: rdkit cannot parse {texts[i]!r}"
        for i in np.flatnonzero(np.logical_not(parsable))
    )
    smiles = tuple(texts[i] for i in kept)
    ids = tuple(f"{name}-{i + 1}" for i in kept)
    return Dataset(
        Labelled(ids, smiles, labels[kept, None]),
        (scaffold_split(smiles),),
        (column,),
        dropped=dropped,
        groups={
            # Molecules without a ring are one set of the split.
            "scaffold": [scaffold or "no ring" for scaffold in scaffolds(smiles)],
            "molecular weight (g/mol)": bands(molecular_weights(smiles)),
        },
        apart=("scaffold",),
    )


def _published(values: dict[str, float], source: str, note: str) -> tuple[Published, ...]:
    return tuple(Published(name, value, source, False, note) for name, value in values.items())


def _moleculenet(name, file, columns, metric, unit, published) -> Task:
    smiles, label = columns
    return Task(
        name=name,
        modality="molecule",
        data=functools.partial(load_moleculenet, file=file, smiles=smiles, label=label),
        split=SPLIT,
        metric=metric,
        unit=unit,
        baselines=("ecfp4_forest", "letter_counts"),
        published=published,
    )


def _scaffold_table(*values: float) -> tuple[Published, ...]:
    names = ("MolCLR", "GROVER-base", "GROVER-large", "GEM", "MoLFormer", "MoLFormer from scratch")
    note = "a scaffold split, but not the deterministic one"
    return _published(dict(zip(names, values, strict=True)), OTHER_SCAFFOLD, note)


def _random_table(*values: float) -> tuple[Published, ...]:
    names = ("SVM", "XGBoost", "random forest", "GCN", "Attentive FP")
    return _published(dict(zip(names, values)), RANDOM, "random split")


TASKS = (
    _moleculenet(
        "bbbp",
        "bbbp",
        ("smiles", "p_np"),
        "auroc",
        "",
        _scaffold_table(0.9307, 0.9022, 0.8861, 0.9103, 0.9037, 0.8636),
    ),
    _moleculenet(
        "bace",
        "bace",
        ("mol", "Class"),
        "auroc",
        "",
        _scaffold_table(0.7873, 0.7700, 0.7795, 0.8603, 0.8275, 0.7728),
    ),
    _moleculenet(
        "esol",
        "esol",
        ("smiles", "logSolubility"),
        "rmse",
        "log10 mol/L",
        _random_table(0.569, 0.582, 0.663, 0.708, 0.587),
    ),
    _moleculenet(
        "freesolv",
        "freesolv",
        ("smiles", "freesolv"),
        "rmse",
        "kcal/mol",
        _random_table(0.852, 1.025, 1.143, 1.149, 1.091),
    ),
    _moleculenet(
        "lipophilicity",
        "lipo",
        ("smiles", "lipo"),
        "rmse",
        "logD",
        _random_table(0.577, 0.574, 0.659, 0.664),
    ),
    Task(
        name="quickstart/tpsa",
        modality="molecule",
        data=load_tpsa,
        split=SPLIT,
        metric="rmse",
        unit="Å²",
        baselines=("ecfp4_ridge", "letter_counts"),
    ),
)
