"""One way to write an item, by modality: two items are the same if their canonical forms are."""

import functools
import hashlib
from collections.abc import Callable

import numpy as np

from biofm_jax.data.pictures import Picture
from biofm_jax.evaluate.molecules import parse, require_rdkit

_COMPLEMENT = str.maketrans("ACGTRYKMBDHV", "TGCAYRMKVHDB")  # IUPAC; S, W and N are their own


def canonical_smiles(text: str) -> str:
    """rdkit's canonical SMILES, with stereochemistry.

    Raises:
        UserError: rdkit is missing, or cannot parse the SMILES.
    """
    (molecule,) = parse([text])
    return require_rdkit().MolToSmiles(molecule)


def canonical_protein(text: str) -> str:
    """Upper case, without white space."""
    return "".join(text.split()).upper()


def canonical_rna(text: str) -> str:
    """Upper case, U for T."""
    return canonical_protein(text).replace("T", "U")


def reverse_complement(dna: str) -> str:
    """The other strand of upper-case DNA, read in its own direction."""
    return dna.translate(_COMPLEMENT)[::-1]


def canonical_dna(text: str) -> str:
    """Upper case, T for U; of the two strands the one that sorts first."""
    strand = canonical_protein(text).replace("U", "T")
    return min(strand, reverse_complement(strand))


def canonical_prose(text: str) -> str:
    """Lower case, one blank between words."""
    return " ".join(text.casefold().split())


@functools.lru_cache(maxsize=1 << 16)
def _smiles_once(text: str) -> str:
    return canonical_smiles(text)


def canonical_pair(text: str) -> str:
    """Of a SMILES, a blank and a protein: canonical SMILES, and the protein in upper case.

    Raises:
        UserError: as `canonical_smiles`.
    """
    smiles, _, protein = text.partition(" ")
    return f"{_smiles_once(smiles)} {canonical_protein(protein)}"


def canonical_picture(text: str) -> str:
    """A hash of the pixels, the same for a picture that is turned or mirrored.

    Raises:
        UserError: the picture cannot be read; the message names it.
    """
    if not isinstance(text, Picture):
        return text
    pixels = text.pixels()
    forms = []
    for mirrored in (pixels, pixels[:, ::-1]) if pixels.ndim == 3 else ():
        forms += [np.rot90(mirrored, turns) for turns in range(4)]
    shaped = (repr(form.shape).encode() + form.tobytes() for form in forms or [pixels])
    return min(hashlib.sha256(each).hexdigest() for each in shaped)


# Form and its name as printed; a modality that is not here is compared as it is written.
CANONICAL: dict[str, tuple[Callable[[str], str], str]] = {
    "molecule": (canonical_smiles, "canonical SMILES"),
    "protein": (canonical_protein, "upper case"),
    "rna": (canonical_rna, "upper case, U for T"),
    "genome": (canonical_dna, "upper case, either strand"),
    "affinity": (canonical_pair, "canonical SMILES and upper case"),
    "notes": (canonical_prose, "lower case, single blanks"),
    "imaging": (canonical_picture, "pixels, however turned or mirrored"),
    "imaging_text": (canonical_prose, "lower case, single blanks"),
    "social": (canonical_prose, "lower case, single blanks"),
    "trial": (canonical_prose, "lower case, single blanks"),
}
