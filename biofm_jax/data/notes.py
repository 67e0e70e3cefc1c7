"""Clinical and biomedical text: what a note may hold, its bytes as tokens, and the data spec."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.sequence import SequenceData
from biofm_jax.data.tokenizers import SPECIALS, Vocabulary, digest, frame, id_dtype


@dataclasses.dataclass(frozen=True)
class NotesData(SequenceData):
    """Free text as bytes, or in the tokens of a published model."""

    max_tokens: int = 512
    """Tokens of a row (t). Longer notes take part as a random window of this length."""

    kind: ClassVar[str] = "notes"

    def own_tokenizer(self) -> "ByteTokenizer":
        """UTF-8 bytes, cls before and eos behind each note."""
        return ByteTokenizer()

    def clean(self, text: str) -> str:
        """See `clean_note`."""
        return clean_note(text)


def clean_note(text: str) -> str:
    """The text without white space around it; inside nothing changes, case included.

    Whether case counts is the tokenizer's matter.

    Raises:
        BadText: nothing is left.
    """
    note = text.strip()
    if not note:
        raise BadText("the note is blank", "drop the record")
    return note


@dataclasses.dataclass(frozen=True)
class ByteTokenizer:
    """One token per UTF-8 byte: any text, no unknowns, and a vocabulary that no data chose."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Specials, then the 256 bytes as two hex digits."""
        return _vocabulary()

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, with cls and eos."""
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        parts = [text.encode() for text in texts]
        offsets = np.cumsum([0, *map(len, parts)])
        codes = np.frombuffer(b"".join(parts), np.uint8).astype(id_dtype(self.vocabulary.size))
        return frame(codes + len(SPECIALS), offsets, self.vocabulary)

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, specials left out; U+FFFD where bytes are cut."""
        codes = np.asarray(ids).astype(np.int64) - len(SPECIALS)
        return codes[codes >= 0].astype(np.uint8).tobytes().decode("utf-8", "replace")

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["bytes", self.vocabulary.fingerprint()])


@functools.cache
def _vocabulary() -> Vocabulary:
    return Vocabulary.of(SPECIALS + tuple(f"{byte:02x}" for byte in range(256)))
