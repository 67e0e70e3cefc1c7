"""Molecule tasks of screens and assays: many molecules, or many labels that are mostly missing.

| task | labels |
|---|---|
| tox21 | 12 assays of nuclear receptors and stress response, 1 = active; 17 % are missing |
| hiv | `HIV_active`: 1 = inhibits replication of the virus in cells |
| chembl_time | pActivity (-log10 mol/L) against 95 protein targets, the latest years tested |

tox21 and hiv are MoleculeNet's (Wu et al. 2018, Chem Sci 9:513); the files are those of
github.com/tencent-ailab/grover (MIT) and github.com/aspuru-guzik-group/selfies (Apache-2.0); the
latter lacks one inactive molecule of the 41,127. chembl_time is DeepChem's year split of ChEMBL
(`examples/chembl/year_sets`, MIT; ChEMBL is CC BY-SA 3.0): of its 691 targets those with `FEWEST`
labels or more among the training and among the test molecules, which hold two thirds of the test
labels. With fewer, R2 of a target says little, and its mean over targets is that of the worst.

A label that is missing is nan: it has no part in a loss, a probe's fit or a metric.
"""

import csv
import gzip
from pathlib import Path

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.evaluate.labels import numbers, read_columns
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Task, data_file
from biofm_jax.evaluate.tasks.molecule import labelled_molecules, moleculenet_task, scaffold_table

TOX21 = (
    *("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma"),
    *("SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53"),
)
PARTS = ("train", "valid", "test")
FEWEST = 50


def load_chembl_time(root: Path | None, fewest: int = FEWEST) -> Dataset:
    """ChEMBL activities, split by year; the labels are all targets with enough of them.

    Args:
        root: as of `Task.data`.
        fewest: labels that a target needs in the training and in the test part.

    Raises:
        UserError: a file is missing or damaged, or no target has so many labels.
    """
    texts, tables, part_of = [], [], []
    targets: tuple[str, ...] = ()
    for number, part in enumerate(PARTS):
        path = data_file(root, f"drug/chembl_timesplit/chembl_5thresh_ts_{part}.csv.gz")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            targets = targets or tuple(next(csv.reader(lines), ["smiles"])[1:])
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            smiles, *cells = read_columns(lines, str(path), ("smiles", *targets))
        texts += smiles
        columns = [numbers(column, str(path), name) for column, name in zip(cells, targets)]
        tables.append(np.stack(columns, axis=1))
        part_of += [number] * len(smiles)
    labels, place = np.concatenate(tables), np.array(part_of)
    counts = [np.isfinite(labels[place == part]).sum(0) for part in (0, 2)]
    kept = np.flatnonzero(np.minimum(*counts) >= fewest)
    if not len(kept):
        raise UserError(f"no target of chembl_time has {fewest} labels to train and to test on")
    labels = labels[:, kept]
    # A molecule without a label of a kept target teaches and tests nothing.
    rows = np.flatnonzero(np.isfinite(labels).any(1))

    def by_year(found: np.ndarray) -> Fold:
        return Fold(*(np.flatnonzero(place[rows[found]] == part) for part in range(3)))

    return labelled_molecules(
        [texts[row] for row in rows],
        labels[rows],
        "chembl",
        tuple(targets[column] for column in kept),
        by_year,
    )


TASKS = (
    moleculenet_task(
        "tox21",
        "tox21",
        ("smiles", *TOX21),
        "auroc",
        "",
        scaffold_table(0.7644, 0.7187, 0.7155, 0.7791, 0.7734, 0.7461),
    ),
    moleculenet_task(
        "hiv",
        "hiv",
        ("smiles", "HIV_active"),
        "auroc",
        "",
        scaffold_table(0.7768, 0.6950, 0.6956, 0.7500, 0.7630, 0.6991),
    ),
    Task(
        name="chembl_time",
        modality="molecule",
        data=load_chembl_time,
        split="by year of publication (DeepChem's year sets)",
        metric="r2",
        unit="pActivity",
        baselines=("ecfp4_ridge",),
    ),
)
