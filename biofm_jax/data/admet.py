"""Molecules with labels that stand for absorption, distribution and toxicity, from MoleculeNet.

HINT pretrains five nodes on data of absorption, distribution, metabolism, excretion and toxicity.
Of these MoleculeNet (Wu et al. 2018, doi 10.1039/c7sc02664a) measures distribution (BBBP: crosses
the blood-brain barrier) and toxicity (Tox21, twelve assays). Absorption has two proxies, water
solubility (ESOL) and lipophilicity (logD at pH 7.4): no set here measures it. Metabolism and
excretion have none: these nodes learn from outcomes alone.
"""

import csv
import dataclasses
import gzip
from pathlib import Path

import numpy as np
from jaxtyping import Float

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.graphs import GraphExample
from biofm_jax.data.molecule import canonical_smiles
from biofm_jax.data.molecule_graph import molecule_graph
from biofm_jax.errors import UserError

TOX21 = ("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD",
         "NR-PPAR-gamma", "SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53")  # fmt: skip
# File, columns; numbers become 1 above the median of the file, as HINT makes its labels binary.
SETS = (
    ("esol", ("logSolubility",)),
    ("lipo", ("lipo",)),
    ("bbbp", ("p_np",)),
    ("tox21", TOX21),
)
LABELS = tuple(f"{name}:{column}" for name, columns in SETS for column in columns)
COUNTS = (2, 1, 0, 0, 12)  # of absorption, distribution, metabolism, excretion, toxicity


@dataclasses.dataclass(frozen=True)
class AdmetMolecules:
    """Molecules with some of `LABELS`.

    Attributes:
        smiles: n canonical SMILES, each once.
        graphs: of each.
        labels: (n, k) 0 or 1, nan where it was not measured.
        bad: molecules that rdkit rejects, or that are no graphs.
    """

    smiles: tuple[str, ...]
    graphs: tuple[GraphExample, ...]
    labels: Float[np.ndarray, "n k"]
    bad: int


def read_admet(folder: Path) -> AdmetMolecules:
    """The four sets of a folder `moleculenet`, joined by molecule.

    Raises:
        UserError: a file or a column is missing, or a cell is no number.
    """
    found: dict[str, np.ndarray] = {}
    graphs: list[GraphExample] = []
    bad = column = 0
    for name, wanted in SETS:
        path = folder / f"{name}.csv.gz"
        if not path.is_file():
            raise UserError(f"{path} does not exist; the ADMET nodes are pretrained on it")
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        if missing := [key for key in ("smiles", *wanted) if rows and key not in rows[0]]:
            raise UserError(f"{path}: no column {missing[0]!r} among {', '.join(rows[0])}")
        try:
            values = np.array([[float(row[key] or "nan") for key in wanted] for row in rows])
        except ValueError as error:
            raise UserError(f"{path}: {error}; a number or a blank is wanted") from None
        if not np.isin(values[~np.isnan(values)], (0, 1)).all():
            middle = np.nanmedian(values, axis=0)
            values = np.where(np.isnan(values), np.nan, values > middle)
        for row, labels in zip(rows, values):
            try:
                smiles = canonical_smiles(row["smiles"])
                if smiles not in found:
                    graphs.append(molecule_graph(smiles))
            except BadText:
                bad += 1
                continue
            line = found.setdefault(smiles, np.full(len(LABELS), np.nan))
            line[column : column + len(wanted)] = labels
        column += len(wanted)
    return AdmetMolecules(tuple(found), tuple(graphs), np.array(list(found.values())), bad)
