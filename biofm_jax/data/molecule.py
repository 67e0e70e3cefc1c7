"""Molecules: SMILES checked and standardised by rdkit, random views, and the data spec."""

import csv
import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.chemistry import parsed
from biofm_jax.data.chemistry import rdkit_chem as rdkit_chem  # other files take it from here
from biofm_jax.data.molecule_policy import MoleculePolicy
from biofm_jax.data.sequence import SequenceData
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.errors import UserError

QUICKSTART = "rdkit:NCI/first_5K.smi"


@dataclasses.dataclass(frozen=True)
class MoleculeData(SequenceData):
    """Molecules as canonical SMILES; a path `rdkit:NAME` is a file of rdkit's own data."""

    path: str = QUICKSTART
    """A file of records, a folder that `biofm data prepare` made, or `rdkit:` and a name."""
    max_tokens: int = 256
    """Tokens of a row (t). Longer SMILES take part as a random window of this length."""
    policy: MoleculePolicy = MoleculePolicy()
    """Salts, tautomers, and what is refused."""

    kind: ClassVar[str] = "molecule"

    def own_tokenizer(self) -> SmilesTokenizer:
        """Atom-level SMILES tokens, cls before and eos behind each molecule."""
        return SmilesTokenizer()

    def clean(self, text: str) -> str:
        """See `MoleculePolicy.standardised`."""
        return self.policy.standardised(text)

    def recorded(self) -> dict[str, str]:
        """The policy, by field."""
        return self.policy.recorded()

    @property
    def distinct(self) -> bool:
        """Whether a molecule that an earlier record has is a bad one."""
        return self.policy.duplicates == "refuse"

    def random_texts(self, texts: list[str], count: int) -> list[list[str]]:
        """See `random_smiles`."""
        return [random_smiles(text, count) for text in texts]

    def source_path(self) -> Path:
        """The file or folder that `path` names."""
        if self.path.startswith("rdkit:"):
            return rdkit_data(self.path.removeprefix("rdkit:"))
        return super().source_path()


def canonical_smiles(text: str) -> str:
    """rdkit's canonical SMILES; salts, stereo, charges and isotopes are kept.

    Raises:
        BadText: rdkit rejects the SMILES.
        UserError: rdkit is not installed.
    """
    return rdkit_chem().MolToSmiles(parsed(text))


def random_smiles(text: str, count: int) -> list[str]:
    """`count` random SMILES of one molecule, the same on every call.

    Args:
        text: a SMILES that rdkit accepts.
        count: how many; small molecules repeat some.
    """
    chem = rdkit_chem()
    return list(chem.MolToRandomSmilesVect(chem.MolFromSmiles(text), count, randomSeed=1))


@dataclasses.dataclass(frozen=True)
class LabelledMolecules:
    """Molecules with one measured or computed number each.

    Attributes:
        ids: names in the source.
        smiles: canonical SMILES.
        labels: (n, 1) float32.
        label_name: what the number is, with its unit.
    """

    ids: list[str]
    smiles: list[str]
    labels: np.ndarray
    label_name: str


def quickstart_molecules() -> LabelledMolecules:
    """4,991 NCI molecules with polar surface area, from the files in rdkit's own wheel.

    `first_5K.smi` (SMILES, NSC number) and `first_5k.tpsa.csv` (one comment line, then SMILES,
    TPSA) list the same 4,999 molecules in the same order; eight that rdkit rejects are left out.

    Raises:
        UserError: rdkit is not installed, or the two files disagree.
    """
    table = rdkit_data("NCI/first_5k.tpsa.csv")
    with open(rdkit_data(QUICKSTART.removeprefix("rdkit:"))) as file:
        molecules = [line.split() for line in file]
    with open(table) as file:
        areas = [row for row in csv.reader(file) if not row[0].startswith("#")]
    ids, smiles, labels = [], [], []
    for number, ((text, name), (same, area)) in enumerate(zip(molecules, areas, strict=True), 1):
        if text != same:
            raise UserError(f"{table}: molecule {number} is not that of {QUICKSTART}")
        try:
            canonical = canonical_smiles(text)
        except BadText:
            continue
        ids.append(name)
        smiles.append(canonical)
        labels.append(float(area))
    return LabelledMolecules(ids, smiles, np.float32(labels)[:, None], "tpsa (square angstrom)")


def rdkit_data(name: str) -> Path:
    """A file of rdkit's data folder.

    Raises:
        UserError: rdkit is not installed or lacks the file.
    """
    rdkit_chem()
    from rdkit import RDConfig

    path = Path(RDConfig.RDDataDir) / name
    if not path.is_file():
        raise UserError(f"rdkit:{name}: rdkit's data folder {RDConfig.RDDataDir} has no such file")
    return path
