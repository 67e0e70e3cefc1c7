"""DNA and RNA: what a sequence may hold, and the data spec."""

import dataclasses
import re
from typing import ClassVar

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.sequence import SequenceData
from biofm_jax.data.tokenizers import KmerTokenizer

# IUPAC's letters for more than one base (Cornish-Bowden 1985).
_AMBIGUOUS = "RYSWKMBDHV"
_CLEAN = str.maketrans("U" + _AMBIGUOUS, "T" + "N" * len(_AMBIGUOUS), "-.")
_OTHER = re.compile("[^ACGTN]")


@dataclasses.dataclass(frozen=True)
class GenomeData(SequenceData):
    """DNA or RNA sequences in 6-mers, or in the tokens of a published model."""

    kind: ClassVar[str] = "genome"

    def own_tokenizer(self) -> KmerTokenizer:
        """Non-overlapping 6-mers, cls before and eos behind each sequence."""
        return KmerTokenizer()

    def clean(self, text: str) -> str:
        """See `clean_bases`."""
        return clean_bases(text)


def clean_bases(text: str) -> str:
    """A sequence in A, C, G, T and N.

    Lower case (soft-masked repeats) is upper-cased, RNA's U becomes T, IUPAC's letters for
    several bases become N, gaps (`-` and `.`) are removed. A published vocabulary that has U and
    no T gets each T as U again (`spellings.spelling_of`), so that RNA and DNA files serve DNA
    and RNA models alike.

    Args:
        text: bases, without white space.

    Raises:
        BadText: any other character, or nothing left.
    """
    bases = text.upper().translate(_CLEAN)
    if not bases:
        raise BadText("the sequence holds only gaps", "drop the record")
    other = _OTHER.search(bases)
    if other:
        fix = "use A, C, G, T, U, N or IUPAC's letters"
        raise BadText(f"{other.group()!r} at base {other.start() + 1} is no base", fix)
    return bases
