"""Eligibility criteria: inclusion and exclusion sentences, and hashed words as tokens."""

import dataclasses
import functools
import re
import zlib

import numpy as np

from biofm_jax.data.tokenizers import SPECIALS, Vocabulary, digest, frame, id_dtype

_HEADER = re.compile(r"\W*(?:[\w/-]+\s+){0,3}?(in|ex)clusion(?:\s+criteria)?[^.;]{0,40}")
_BULLET = re.compile(r"\s*(?:[-*•–]|\(?[0-9]{1,2}[.)]|[a-z][.)])\s+")
_WORD = re.compile(r"[a-z]+|[0-9]+|[<>≤≥=%]")


@dataclasses.dataclass(frozen=True)
class Criteria:
    """Who may take part and who may not, one sentence or point of a list each."""

    inclusion: tuple[str, ...] = ()
    exclusion: tuple[str, ...] = ()


def split_criteria(text: str) -> Criteria:
    """The sentences of an eligibility text, as registries write it.

    A point of a list, or a paragraph, is a sentence; wrapped lines are joined. A short line with
    "inclusion" or "exclusion" (and not both) is a heading, and says what follows; what stands
    before any heading is inclusion, as in protocols that have none.
    """
    parts: tuple[list[str], list[str]] = ([], [])
    now, side = "", 0
    for line in [*text.splitlines(), ""]:
        heading = _side(line)
        if now and (not line.strip() or heading is not None or _BULLET.match(line)):
            parts[side].append(now)
            now = ""
        if heading is not None:
            side = heading
        elif line.strip():
            now = f"{now} {_BULLET.sub('', line, count=1) if not now else line}"
            now = " ".join(now.split())
    return Criteria(tuple(parts[0]), tuple(parts[1]))


def _side(line: str) -> int | None:
    """0 or 1 where a line is the heading of inclusion or exclusion criteria."""
    words = line.lower().strip()
    if len(words.split()) > 8 or not ("inclusion" in words) ^ ("exclusion" in words):
        return None
    if not words.endswith(":") and not _HEADER.fullmatch(words):
        return None
    return int("exclusion" in words)


@dataclasses.dataclass(frozen=True)
class HashedWords:
    """One token per word, number or sign of comparison, by a hash of its letters (CRC-32).

    No vocabulary is chosen by the data, and no word is unknown; some words share a token
    (Weinberger et al. 2009, arXiv:0902.2206).

    Attributes:
        buckets: number of tokens beside the special ones.
    """

    buckets: int = 4096

    @property
    def vocabulary(self) -> Vocabulary:
        """Specials, then the numbers of the buckets."""
        return _vocabulary(self.buckets)

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, with cls and eos."""
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        words = [[self._id(word) for word in _WORD.findall(text.lower())] for text in texts]
        offsets = np.cumsum([0, *map(len, words)])
        flat = np.array([i for line in words for i in line], id_dtype(self.vocabulary.size))
        return frame(flat, offsets, self.vocabulary)

    def decode(self, ids: np.ndarray) -> str:
        """The numbers of the buckets: words cannot be told from their hash."""
        regular = np.asarray(ids)[np.asarray(ids) >= len(SPECIALS)]
        return " ".join(self.vocabulary.tokens[i] for i in regular)

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["words", _WORD.pattern, self.vocabulary.fingerprint()])

    def _id(self, word: str) -> int:
        return len(SPECIALS) + zlib.crc32(word.encode()) % self.buckets


@functools.cache
def _vocabulary(buckets: int) -> Vocabulary:
    return Vocabulary.of(SPECIALS + tuple(f"{i:x}" for i in range(buckets)))
