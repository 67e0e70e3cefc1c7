"""Character, k-mer and SMILES tokenizers with vocabularies that never depend on the data."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np

SPECIALS = ("<cls>", "<pad>", "<eos>", "<unk>", "<mask>")
ROLES = {token.strip("<>"): token for token in SPECIALS}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model, in id order.

    Attributes:
        tokens: token text by id.
        pad: id of padding.
        mask: id of the mask token.
        cls: id of the token before a sequence.
        eos: id of the token after a sequence; of a published generator that adds none, the token
            that ends what it writes.
        unk: id of unknown text. Each of the five is -1 where the vocabulary lacks it.
        regular: ids that masking may choose and that random replacement may draw.
    """

    tokens: tuple[str, ...]
    pad: int
    mask: int
    cls: int
    eos: int
    unk: int
    regular: tuple[int, ...]

    @classmethod
    def of(
        cls,
        tokens: tuple[str, ...],
        roles: Mapping[str, str] = ROLES,
        special: Collection[str] | None = None,
    ) -> "Vocabulary":
        """The vocabulary of some tokens.

        Args:
            tokens: token text by id, each once.
            roles: the token that is `pad`, `mask`, `cls`, `eos` or `unk`; a role left out, or
                whose token is none of `tokens`, is -1.
            special: tokens that are not `regular`; None: those written in angle brackets.
        """
        ids = {token: i for i, token in enumerate(tokens)}
        if len(ids) != len(tokens):
            raise ValueError("a vocabulary lists a token twice")
        if special is None:
            special = {token for token in tokens if _is_special(token)}
        return cls(
            tokens=tokens,
            **{role: ids.get(roles.get(role, ""), -1) for role in ROLES},
            regular=tuple(i for i, token in enumerate(tokens) if token not in special),
        )

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def special(self) -> tuple[int, ...]:
        """Ids that are not `regular`."""
        regular = set(self.regular)
        return tuple(i for i in range(self.size) if i not in regular)

    def fingerprint(self) -> str:
        """16 hex digits that change when a token or its id changes."""
        return digest(dataclasses.asdict(self))


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the ids."""

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, with cls and eos."""

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, specials left out."""

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""


@dataclasses.dataclass(frozen=True)
class CharacterTokenizer:
    """One token per character.

    Attributes:
        vocabulary: every regular token is one ASCII character.
        cased: lower case is read as it is (an aromatic c in SMILES); else it is upper-cased.
    """

    vocabulary: Vocabulary
    cased: bool = False

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """(256,) id of each byte."""
        table = np.full(256, max(self.vocabulary.unk, 0), id_dtype(self.vocabulary.size))
        for i in self.vocabulary.regular:
            token = self.vocabulary.tokens[i]
            if len(token) == 1:
                table[ord(token)] = i
                if not self.cased:
                    table[ord(token.lower())] = i
        return table

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, with cls and eos."""
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        codes, offsets = text_bytes(texts)
        return frame(self._table[codes], offsets, self.vocabulary)

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, specials left out."""
        return join_tokens(ids, self.vocabulary)

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        kind = "cased character" if self.cased else "character"
        return digest([kind, self.vocabulary.fingerprint()])


@dataclasses.dataclass(frozen=True)
class KmerTokenizer:
    """Nucleotide k-mers: non-overlapping (stride = k) or overlapping (stride < k).

    Non-overlapping, as the Nucleotide Transformer does it: k-mers are cut from each run of
    A, C, G, T; the rest of a run and every other letter (N) are single tokens. Overlapping, as
    DNABERT does it: one k-mer every `stride` letters, <unk> where it holds another letter, and
    letters behind the last whole k-mer are single tokens. Lower case (soft-masked repeats) is
    upper-cased and U reads as T.

    Attributes:
        k: letters of a token.
        stride: letters from one token to the next, 1 to k.
    """

    k: int = 6
    stride: int = 6

    def __post_init__(self):
        if not 1 <= self.stride <= self.k:
            raise ValueError(f"stride {self.stride} must lie between 1 and k = {self.k}")

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """Specials, the 4^k k-mers in alphabetical order, then single letters."""
        kmers = tuple("".join(letters) for letters in itertools.product("ACGT", repeat=self.k))
        singles = tuple("ACGTN") if self.k > 1 else ("N",)
        return Vocabulary.of(SPECIALS + kmers + singles)

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, with cls and eos."""
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        letters, offsets = text_bytes(texts)
        codes = _BASES[letters]
        index = np.arange(len(codes))
        start = np.repeat(offsets[:-1], np.diff(offsets))
        end = np.repeat(offsets[1:], np.diff(offsets))
        known = codes < 4
        if self.stride == self.k:
            start, end = runs(known, start, end)
        place = index - start
        whole = index + self.k <= end
        is_kmer = whole & (place % self.stride == 0)
        last = start + (end - start - self.k) // self.stride * self.stride + self.k
        is_single = np.where(end - start < self.k, True, index >= last)
        if self.stride == self.k:
            is_kmer &= known
            is_single |= ~known
        kmer, clean = kmer_codes(codes, self.k)
        first = len(SPECIALS)
        single = np.where(known, codes, 4)
        unk = self.vocabulary.unk
        single_id = first + single + (4**self.k if self.k > 1 else 0)
        ids = np.where(is_kmer, np.where(clean, first + kmer, unk), single_id)
        keep = is_kmer | is_single
        kept = np.concatenate([[0], np.cumsum(keep)])
        dtype = id_dtype(self.vocabulary.size)
        return frame(ids[keep].astype(dtype), kept[offsets], self.vocabulary)

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, specials left out; overlaps are written once."""
        text, tokens, special = "", self.vocabulary.tokens, set(self.vocabulary.special)
        for i in np.asarray(ids).tolist():
            if i in special:
                continue
            token = tokens[i]
            text += token[-self.stride :] if text and len(token) == self.k else token
        return text

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["kmer", self.k, self.stride, self.vocabulary.fingerprint()])


def esm2_tokenizer() -> CharacterTokenizer:
    """ESM-2's alphabet in its published order (fair-esm, `Alphabet.from_architecture`)."""
    letters = tuple("LAGVSERTIDPKQNFYMHWCXBUZO.-")
    specials = ("<cls>", "<pad>", "<eos>", "<unk>")
    return CharacterTokenizer(Vocabulary.of(specials + letters + ("<null_1>", "<mask>")))


def id_dtype(size: int) -> np.dtype:
    """The smallest unsigned type that holds ids below `size`."""
    return np.min_scalar_type(size - 1)


def text_bytes(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """All texts as (n,) uint8, other than Latin-1 as '?', and (len + 1,) int64 offsets."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    codes = np.frombuffer("".join(texts).encode("latin-1", "replace"), np.uint8)
    return codes, np.concatenate([[0], np.cumsum(lengths)])


def frame(
    flat: np.ndarray, offsets: np.ndarray, vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """Put cls before and eos behind each sequence of `flat`, where the vocabulary has them."""
    before, after = int(vocabulary.cls >= 0), int(vocabulary.eos >= 0)
    count = len(offsets) - 1
    moved = offsets + (before + after) * np.arange(count + 1)
    framed = np.empty(moved[-1], flat.dtype)
    shift = before + (before + after) * np.arange(count)
    framed[np.arange(len(flat)) + np.repeat(shift, np.diff(offsets))] = flat
    if before:
        framed[moved[:-1]] = vocabulary.cls
    if after:
        framed[moved[1:] - 1] = vocabulary.eos
    return framed, moved


def _is_special(token: str) -> bool:
    return len(token) > 2 and token[0] == "<" and token[-1] == ">"


def digest(value: object) -> str:
    """16 hex digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def join_tokens(ids: np.ndarray, vocabulary: Vocabulary) -> str:
    """The tokens of ids in a row, specials left out."""
    special = set(vocabulary.special)
    return "".join(vocabulary.tokens[i] for i in np.asarray(ids).tolist() if i not in special)


def _base_table() -> np.ndarray:
    table = np.full(256, 4, np.int64)
    for code, letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
        table[[ord(letter) for letter in letters]] = code
    return table


_BASES = _base_table()


def runs(known: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of the run of A, C, G, T (or of other letters) around each letter."""
    index = np.arange(len(known))
    change = np.ones(len(known), bool)
    change[1:] = (known[1:] != known[:-1]) | (start[1:] != start[:-1])
    heads = np.flatnonzero(change)
    run = np.cumsum(change) - 1
    tails = np.append(heads[1:], len(index))
    return heads[run], np.minimum(tails[run], end)


def kmer_codes(codes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The base-4 number of the k-mer at each letter, and whether it holds only A, C, G, T."""
    padded = np.concatenate([codes, np.full(k - 1, 4)])
    number = np.zeros(len(codes), np.int64)
    clean = np.ones(len(codes), bool)
    for shift in range(k):
        letter = padded[shift : shift + len(codes)]
        number = number * 4 + np.minimum(letter, 3)
        clean &= letter < 4
    return number, clean
