"""The examples that our model and a reference read, alone, padded and packed."""

import dataclasses
from typing import Any

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.parity.references import FIRST, PAD, VOCABULARY, random_tokens

WRITTEN = (11, 26, 7)  # tokens that a decoder reads, another order than that of the sources


@dataclasses.dataclass(frozen=True)
class Rows:
    """Examples of several lengths, `PAD` behind each.

    Attributes:
        tokens: (b, t) int32, read by a single stack, or by the decoder.
        source: (b, u) int32, read by the encoder beside a decoder; None: there is one stack.
    """

    tokens: np.ndarray
    source: np.ndarray | None = None

    @property
    def real(self) -> np.ndarray:
        """(b, t) bool, where there is a token."""
        return self.tokens != PAD

    def padded(self, rows: slice = slice(None)) -> Batch:
        """One example a row."""
        source = None if self.source is None else padded_batch(self.source[rows])
        return padded_batch(self.tokens[rows]).replace(source=source)

    def packed(self) -> Batch:
        """All examples in one row, on both sides."""
        source = None if self.source is None else packed_batch(self.source)
        return packed_batch(self.tokens).replace(source=source)

    def alone(self, row: int) -> Batch:
        """One example without padding."""
        cut = [
            None if side is None else side[row : row + 1, : (side[row] != PAD).sum()]
            for side in (self.tokens, self.source)
        ]
        return Rows(*cut).padded()


def random_rows(spec: Any) -> Rows:
    """Rows for a model of this spec."""
    source = random_tokens()
    if not isinstance(spec, EncoderDecoderSpec):
        return Rows(source)
    rng = np.random.default_rng(2)
    tokens = np.full((len(WRITTEN), max(WRITTEN)), PAD, np.int32)
    for row, length in zip(tokens, WRITTEN, strict=True):
        row[:length] = rng.integers(FIRST, VOCABULARY, length)
    return Rows(tokens, source)


def padded_batch(tokens: np.ndarray) -> Batch:
    """One example a row, padding behind it."""
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    examples = np.arange(len(tokens), dtype=np.int32)[:, None]
    return Batch(tokens, (tokens != PAD).astype(np.int32), positions, examples)


def packed_batch(tokens: np.ndarray) -> Batch:
    """All examples in one row, one behind the other, padding behind the last."""
    rows = [row[row != PAD] for row in tokens]
    lengths = [len(row) for row in rows]
    room = [np.full(5, PAD, np.int32)]
    ids = np.repeat(np.arange(1, len(rows) + 1), lengths)
    positions = np.concatenate([np.arange(n) for n in lengths])
    empty = np.zeros(5, np.int64)
    return Batch(
        np.concatenate(rows + room)[None],
        np.concatenate([ids, empty])[None].astype(np.int32),
        np.concatenate([positions, empty])[None].astype(np.int32),
        np.arange(len(rows), dtype=np.int32)[None],
    )
