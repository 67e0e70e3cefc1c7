"""How the authors of a model wrote sequences for its tokenizer, and back."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from biofm_jax.data.tokenizers import Tokenizer, Vocabulary, digest
from biofm_jax.errors import UserError

LINE = 60  # residues of a FASTA line
END = "<|endoftext|>"
_RARE = str.maketrans("UZOB", "XXXX")
_DNA = frozenset("ACGT")


@dataclasses.dataclass(frozen=True)
class Spelling:
    """A way to write a sequence.

    Attributes:
        write: a clean sequence to the text that the published tokenizer cuts.
        read: such a text, specials left out, to the sequence.
    """

    write: Callable[[str], str]
    read: Callable[[str], str]


def _same(text: str) -> str:
    return text


def spaced_residues(sequence: str) -> str:
    """Residues between spaces, with U, Z, O, B as X (Elnaggar et al. 2021, ProtTrans)."""
    return " ".join(sequence.translate(_RARE))


def terminals(sequence: str) -> str:
    """ProGen2's "1" at the N and "2" at the C terminus (Nijkamp et al. 2023)."""
    return f"1{sequence}2"


def fasta_lines(sequence: str) -> str:
    """Lines of 60 residues between two <|endoftext|> (ProtGPT2, Ferruz et al. 2022)."""
    lines = [sequence[i : i + LINE] for i in range(0, len(sequence), LINE)]
    return END + "\n".join(lines) + END


def overlapping_kmers(sequence: str, k: int) -> str:
    """One k-mer per letter, between spaces (DNABERT, Ji et al. 2021); none of a shorter one."""
    return " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))


def _join_kmers(text: str) -> str:
    words = text.split()
    return "".join(words[:1]) + "".join(word[-1] for word in words[1:])


def _kmers(k: int) -> Spelling:
    return Spelling(lambda sequence: overlapping_kmers(sequence, k), _join_kmers)


SPELLINGS = {
    "plain": Spelling(_same, _same),
    "protbert": Spelling(spaced_residues, lambda text: text.replace(" ", "")),
    "prott5": Spelling(spaced_residues, lambda text: text.replace(" ", "")),
    "progen2": Spelling(terminals, lambda text: re.sub("[12]", "", text)),
    "protgpt2": Spelling(fasta_lines, lambda text: text.replace("\n", "")),
    "rna": Spelling(lambda text: text.replace("T", "U"), lambda text: text.replace("U", "T")),
    **{f"dnabert{k}": _kmers(k) for k in (3, 4, 5, 6)},
}


@dataclasses.dataclass(frozen=True, eq=False)
class SpelledTokenizer:
    """A published tokenizer for sequences that are not yet written as its authors did.

    Attributes:
        tokenizer: cuts the written text.
        family: a key of `SPELLINGS`.
    """

    tokenizer: Tokenizer
    family: str

    def __post_init__(self):
        if self.family not in SPELLINGS:
            known = ", ".join(SPELLINGS)
            raise UserError(f"unknown family of tokenizers {self.family!r}; choose one of {known}")

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the ids."""
        return self.tokenizer.vocabulary

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one sequence, framed as the published tokenizer does."""
        return self.tokenizer.encode(SPELLINGS[self.family].write(text))

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all sequences one behind the other, smallest uint; (n + 1,) int64 offsets."""
        write = SPELLINGS[self.family].write
        return self.tokenizer.encode_many([write(text) for text in texts])

    def decode(self, ids: np.ndarray) -> str:
        """The sequence of ids, specials left out."""
        return SPELLINGS[self.family].read(self.tokenizer.decode(ids))

    def fingerprint(self) -> str:
        """Hex digits that change when the same sequence would get other ids."""
        return digest([self.family, self.tokenizer.fingerprint()])


def spelling_of(vocabulary: Vocabulary) -> str:
    """The family that a vocabulary shows: a key of `SPELLINGS`.

    Words of k letters A, C, G, T only are DNABERT's; single capital letters are ProtBERT's, with
    T5's word mark before each ProtT5's, with "1" and "2" ProGen2's; A, C, G and U without T are
    RNA, and T is written U. Any other vocabulary is "plain": the text goes in as it is.
    ProtGPT2's is one of these; who loads it names the family.
    """
    words = {vocabulary.tokens[i] for i in vocabulary.regular}
    lengths = {len(word) for word in words}
    if words and len(lengths) == 1 and min(lengths) in (3, 4, 5, 6):
        letters = set("".join(words))
        if letters == _DNA and len(words) == 4 ** min(lengths):
            return f"dnabert{min(lengths)}"
    residues = set("ACDEFGHIKLMNPQRSTVWY")
    if {f"▁{letter}" for letter in residues} <= words and max(lengths) <= 2:
        return "prott5"
    if lengths == {1} and residues <= words:
        if {"1", "2"} <= words:
            return "progen2"
        if vocabulary.tokens[vocabulary.unk] == "[UNK]" and vocabulary.unk >= 0:
            return "protbert"
    if set("ACGU") <= words and "T" not in words and max(lengths) == 1:
        return "rna"
    return "plain"
