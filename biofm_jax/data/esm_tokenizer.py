"""The tokenizer of ESM and of the Nucleotide Transformer: the longest known token from the left."""

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np

from biofm_jax.data.special_tokens import SpecialTokens, read_text
from biofm_jax.data.tokenizers import (
    Vocabulary,
    digest,
    frame,
    id_dtype,
    join_tokens,
    kmer_codes,
    runs,
    text_bytes,
)
from biofm_jax.errors import UserError

UNKNOWN, SPACE = -1, -2  # in the table of single characters, beside ids
DEFAULTS = {role: f"<{role}>" for role in ("cls", "pad", "eos", "unk", "mask")}


@dataclasses.dataclass(frozen=True)
class EsmTokenizer:
    """The tokens of a `vocab.txt`, cut from the text as transformers' `EsmTokenizer` does.

    At each place the longest token of the vocabulary is taken, specials in the text included. A
    stretch in which no token begins is one <unk>, or one per part where it holds white space;
    white space itself has no token. So "MKjjA" is M, K, <unk>, A. The tokenizer is
    case-sensitive: lower case is unknown to a vocabulary of capitals, and T or U to one that
    lacks it, which is why `ProteinData` and `GenomeData` clean texts first. Equality holds for
    vocabularies whose longer words are spelled in letters that are tokens too, as all published
    ones are: for others transformers' search skips characters.

    Of the Nucleotide Transformer: A, C, G, T in 6-mers from the start of each run, the rest of a
    run and N alone.

    Attributes:
        vocabulary: tokens in the order of the file.
    """

    vocabulary: Vocabulary

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.vocabulary.tokens) if token}

    @functools.cached_property
    def _lengths(self) -> tuple[int, ...]:
        """Token lengths that occur, longest first."""
        return tuple(sorted({len(token) for token in self._ids}, reverse=True))

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """(256,) int64 id of each ASCII character, UNKNOWN or SPACE."""
        table = np.full(256, UNKNOWN, np.int64)
        table[[code for code in range(128) if chr(code).isspace()]] = SPACE
        for token, i in self._ids.items():
            if len(token) == 1 and token.isascii():
                table[ord(token)] = i
        return table

    @functools.cached_property
    def _kmers(self) -> tuple[int, np.ndarray]:
        """k and (4^k,) ids of the DNA k-mers in base-4 order; k = 0 if not all are tokens."""
        ids = self._ids
        for k in self._lengths:
            if k > 1 and f"{'A' * k}" in ids:
                words = map("".join, itertools.product("ACGT", repeat=k))
                found = np.array([ids.get(word, UNKNOWN) for word in words])
                return (k, found) if (found >= 0).all() else (0, found)
        return 0, np.zeros(0, np.int64)

    @functools.cached_property
    def _openers(self) -> frozenset[str]:
        """First characters of the tokens that `_plain` does not cut; a letter means: cut none."""
        k, _ = self._kmers
        return frozenset(
            token[0]
            for token in self._ids
            if len(token) > 1 and not (len(token) == k and set(token) <= set("ACGT"))
        )

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, with cls and eos."""
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        if all(self._is_plain(text) for text in texts):
            flat, offsets = self._plain(texts)
        else:
            parts = [self._plain([t])[0] if self._is_plain(t) else self._any(t) for t in texts]
            lengths = np.fromiter(map(len, parts), np.int64, len(parts))
            flat, offsets = np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths)])
        return frame(flat.astype(id_dtype(self.vocabulary.size)), offsets, self.vocabulary)

    def _is_plain(self, text: str) -> bool:
        return text.isascii() and not any(opener in text for opener in self._openers)

    def _plain(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts of single characters and k-mers only: (n,) int64 ids, (len + 1,) offsets."""
        letters, offsets = text_bytes(texts)
        single = self._table[letters]
        index = np.arange(len(letters))
        start = np.repeat(offsets[:-1], np.diff(offsets))
        # A stretch of unknown characters is one <unk>.
        keep = single != SPACE
        keep[1:] &= (single[1:] != UNKNOWN) | (single[:-1] != UNKNOWN) | (index[1:] == start[1:])
        ids = np.where(single == UNKNOWN, self.vocabulary.unk, single)
        k, kmer_ids = self._kmers
        if k:
            bases = _BASES[letters]
            end = np.repeat(offsets[1:], np.diff(offsets))
            start, end = runs(bases < 4, start, end)
            in_kmer = (bases < 4) & (index < start + (end - start) // k * k)
            first = in_kmer & ((index - start) % k == 0)
            ids = np.where(first, kmer_ids[kmer_codes(bases, k)[0]], ids)
            keep &= first | ~in_kmer
        kept = np.concatenate([[0], np.cumsum(keep)])
        return ids[keep], kept[offsets]

    def _any(self, text: str) -> np.ndarray:
        """(n,) int64 ids of any text, character by character."""
        ids, unk = self._ids, self.vocabulary.unk
        found: list[int] = []
        place = begin = 0
        while place < len(text):
            for length in self._lengths:
                token = ids.get(text[place : place + length])
                if token is not None and place + length <= len(text):
                    found += [unk] * len(text[begin:place].split())
                    found.append(token)
                    begin = place = place + length
                    break
            else:
                place += 1
        found += [unk] * len(text[begin:].split())
        return np.array(found, np.int64)

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, specials left out."""
        return join_tokens(ids, self.vocabulary)

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["esm", self.vocabulary.fingerprint()])


def read_esm_tokenizer(path: Path, specials: SpecialTokens) -> EsmTokenizer:
    """The tokenizer of a published `vocab.txt`, one token a line.

    Args:
        path: the file.
        specials: roles; <cls>, <pad>, <eos>, <unk> and <mask> where its files name none. The
            Nucleotide Transformer's say that there is no eos.

    Raises:
        UserError: the file lists a token twice, or lacks <cls> or <unk>.
    """
    tokens = tuple(line.strip() for line in read_text(path).splitlines())
    roles = {role: specials.name(role, (usual,), tokens) or "" for role, usual in DEFAULTS.items()}
    special = {token for token in tokens if len(token) > 2 and token[0] + token[-1] == "<>"}
    if len(set(tokens)) != len(tokens):
        twice = next(token for i, token in enumerate(tokens) if token in tokens[:i])
        raise UserError(f"{path}, line {tokens.index(twice) + 1}: {twice!r} is listed twice")
    for role in ("cls", "unk"):
        if roles[role] not in tokens:
            raise UserError(f"{path}: no {DEFAULTS[role]} among its tokens; is it of this family?")
    return EsmTokenizer(Vocabulary.of(tokens, roles, special | set(roles.values())))


def _base_table() -> np.ndarray:
    table = np.full(256, 4, np.int64)
    table[[ord(letter) for letter in "ACGT"]] = range(4)
    return table


_BASES = _base_table()
