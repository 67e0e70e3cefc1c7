"""Proteins: what a sequence may hold, and the data spec."""

import dataclasses
import re
from typing import ClassVar

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.sequence import SequenceData
from biofm_jax.data.tokenizers import CharacterTokenizer, esm2_tokenizer

_OTHER = re.compile("[^ACDEFGHIKLMNPQRSTVWYBOUXZ]")


@dataclasses.dataclass(frozen=True)
class ProteinData(SequenceData):
    """Protein sequences in ESM-2's alphabet, or in the tokens of a published model."""

    kind: ClassVar[str] = "protein"

    def own_tokenizer(self) -> CharacterTokenizer:
        """ESM-2's 33 tokens, cls before and eos behind each sequence."""
        return esm2_tokenizer()

    def clean(self, text: str) -> str:
        """See `clean_protein`."""
        return clean_protein(text)


def clean_protein(text: str) -> str:
    """A sequence in ESM-2's letters.

    Lower case is upper-cased. Gaps (`-` and `.`, from alignments) and one stop (`*`) at the end
    are removed. U (selenocysteine), O (pyrrolysine), B (D or N), Z (E or Q) and X (any) are
    ESM-2 tokens and stay; J (I or L), which ESM-2 lacks, becomes X.

    Args:
        text: residues in one-letter code, without white space.

    Raises:
        BadText: a stop inside, any other character, or nothing left.
    """
    residues = text.upper().translate(_DROP_GAPS).removesuffix("*").replace("J", "X")
    if not residues:
        raise BadText("the sequence holds only gaps and stops", "drop the record")
    other = _OTHER.search(residues)
    if other and other.group() == "*":
        fix = "cut the sequence at the stop or drop the record"
        raise BadText(f"a stop inside the sequence, after {other.start()} residues", fix)
    if other:
        fix = "use one-letter residue codes"
        raise BadText(f"{other.group()!r} at residue {other.start() + 1} is no residue", fix)
    return residues


_DROP_GAPS = str.maketrans("", "", "-.")
