"""Molecules as SELFIES tokens: every sequence of symbols is a molecule (Krenn et al. 2020).

Records are canonical SMILES, as of all molecules; SELFIES are only how a model reads and writes
them, so that tasks, splits and reports are the same for both notations.
"""

import dataclasses
import functools
import re

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_files import selfies_package, selfies_to_smiles
from biofm_jax.data.sources import Prepared
from biofm_jax.data.tokenizers import SPECIALS, Vocabulary, digest, frame, id_dtype, join_tokens
from biofm_jax.errors import UserError

# Branches and rings with the digits of their lengths, which are written as symbols, too.
STRUCTURE = [
    *(f"[{bond}Branch{digits}]" for bond in ("", "=", "#") for digits in (1, 2, 3)),
    *(f"[{bond}Ring{digits}]" for bond in ("", "=", "#") for digits in (1, 2, 3)),
    *(f"[{ends}Ring{digits}]" for ends in ("-/", "-\\", "/-", "\\-", "/\\", "\\/", "//", "\\\\")
      for digits in (1, 2)),
    ".",
]  # fmt: skip
# Atoms with the bond before them; of organic molecules in ChEMBL, Tox21 and the NCI, and ions.
ATOMS = r"""
[C] [=C] [#C] [/C] [\C] [N] [=N] [#N] [/N] [\N] [O] [=O] [/O] [\O] [S] [=S] [/S] [\S] [P] [=P] [F]
[Cl] [Br] [I] [/Cl] [\Cl] [/F] [\F] [/Br] [\Br] [/I] [\I] [B] [Si] [Se] [=Se] [As] [Te] [H] [2H]
[C@H1] [C@@H1] [C@] [C@@] [/C@H1] [\C@H1] [/C@@H1] [\C@@H1] [/C@] [\C@] [/C@@] [\C@@]
[S@] [S@@] [P@] [P@@] [N@] [N@@] [N@+1] [N@@+1] [S@+1] [S@@+1]
[NH1] [NH2] [NH0] [CH0] [=CH0] [CH1] [CH2] [CH3] [OH0] [OH1] [SH0] [PH0] [PH1] [=PH1] [ClH0] [AlH3]
[N+1] [=N+1] [#N+1] [/N+1] [\N+1] [NH1+1] [=NH1+1] [NH2+1] [=NH2+1] [NH3+1] [NH4+1] [N-1] [=N-1]
[O-1] [=O+1] [O+1] [OH1-1] [S-1] [S+1] [=S+1] [SH1+1] [P+1] [C-1] [#C-1] [CH1-1] [CH2-1] [B-1] [I+1]
[H+1] [F-1] [Cl-1] [Br-1] [I-1] [Li+1] [Na+1] [K+1] [Mg+2] [Ca+2] [Ba+2] [Zn+2] [Cu+2] [Fe+2] [Fe+3]
[Co+1] [Co+2] [Co+3] [Mn+2] [Mn+3] [Al+3] [Ag+1] [Na] [Cu] [Hg] [Sn] [Co] [Ni] [Cd] [Cr] [Zn] [Sb]
[Au] [Ti] [Pt] [Mn] [Ge] [Bi] [Pb] [Fe] [Pd]
"""
# What any other symbol is spelled with.
CHARACTERS = "[]@+-=#/\\0123456789ABCDEFGHIKLMNOPRSTUVWXYZabcdefghiklmnoprstuvy"


@dataclasses.dataclass(frozen=True)
class SelfiesTokenizer:
    """One token per SELFIES symbol; a symbol that is not listed is spelled out.

    Texts are SMILES: `encode` writes one as SELFIES, in its order of atoms, aromatic rings as
    alternating bonds; `decode` gives a SMILES of the same molecule. The vocabulary is a constant.
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """Specials, structure, atoms, characters."""
        return _vocabulary()

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one SMILES, with cls and eos; <unk> where it has no SELFIES.

        Raises:
            UserError: the package selfies is not installed.
        """
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        ids, unk = _ids(), self.vocabulary.unk
        rows = []
        for text in texts:
            try:
                rows.append([ids.get(token, unk) for token in _pattern().findall(selfies(text))])
            except BadText:
                rows.append([unk])
        offsets = np.cumsum([0, *map(len, rows)])
        flat = np.array([i for row in rows for i in row], id_dtype(self.vocabulary.size))
        return frame(flat, offsets, self.vocabulary)

    def decode(self, ids: np.ndarray) -> str:
        """The SMILES of ids; specials are left out, and what is no SELFIES stays as it is."""
        text = join_tokens(ids, self.vocabulary)
        try:
            return selfies_to_smiles(text) if text else ""
        except BadText:
            return text

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["selfies", self.vocabulary.fingerprint()])


@dataclasses.dataclass(frozen=True)
class SelfiesData(MoleculeData):
    """Molecules that a model reads as SELFIES."""

    def own_tokenizer(self) -> SelfiesTokenizer:
        """See `SelfiesTokenizer`."""
        return SelfiesTokenizer()

    def clean(self, text: str) -> str:
        """As of `MoleculeData`; a molecule that SELFIES cannot say is a bad record."""
        smiles = super().clean(text)
        selfies(smiles)
        return smiles

    def recorded(self) -> dict[str, str]:
        """The policy, and that molecules without SELFIES are left out."""
        return super().recorded() | {"notation": "selfies"}

    def prepared(self) -> Prepared:
        """As of `SequenceData`.

        Raises:
            UserError: a folder that was prepared for SMILES, with molecules that have no SELFIES.
        """
        found = super().prepared()
        if "notation" not in found.source:
            raise UserError(
                f"{found.folder}: prepared for SMILES, and some molecules have no SELFIES; give "
                "--data.path the file itself"
            )
        return found


def selfies(smiles: str) -> str:
    """SELFIES of a SMILES, under the package's default limits on bonds.

    Raises:
        BadText: an atom has more bonds than they allow (iodine with two, iron in ferrocene), or the
            SMILES is none.
        UserError: the package selfies is not installed.
    """
    package = selfies_package()
    try:
        return package.encoder(smiles) if smiles else ""
    except package.EncoderError as error:
        shown = smiles if len(smiles) <= 60 else smiles[:57] + "..."
        raise BadText(
            f"{shown!r} has no SELFIES: an atom has more bonds than they allow",
            "drop the row, or train on SMILES (MoleculeData)",
        ) from error


@functools.cache
def _vocabulary() -> Vocabulary:
    listed = [*STRUCTURE, *ATOMS.split(), *CHARACTERS]
    return Vocabulary.of(SPECIALS + tuple(dict.fromkeys(listed)))


@functools.cache
def _ids() -> dict[str, int]:
    vocabulary = _vocabulary()
    return {vocabulary.tokens[i]: i for i in vocabulary.regular}


@functools.cache
def _pattern() -> re.Pattern:
    listed = "|".join(re.escape(symbol) for symbol in (*STRUCTURE, *ATOMS.split()))
    return re.compile(rf"{listed}|[\s\S]")
