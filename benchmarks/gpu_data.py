"""Random proteins as packed, padded and full rows, for the GPU benchmark."""

import dataclasses

import numpy as np

from benchmarks import inputs
from biofm_jax.data.batch import Batch
from biofm_jax.data.packing import OpenRows, fill_rows
from biofm_jax.zoo.esm2 import MASK, PAD

ROW, SHORTEST = 1024, 4
# The fullest of these rows holds 6 proteins; cuDNN's time grows with the number of empty slots.
SEGMENTS = 8
BATCHES = 4  # made once, lying on the device, used in turn


@dataclasses.dataclass(frozen=True)
class Rows:
    """Batches of one kind.

    Attributes:
        batches: numpy batches, all of one shape.
        tokens: unpadded tokens of an average batch.
        attended: mean number of tokens that a token attends to.
    """

    batches: list[Batch]
    tokens: float
    attended: float


def make(kind: str, rows: int, length: int) -> Rows:
    """Batches of the same stream of proteins.

    Args:
        kind: "packed" rows, "padded" ones of one protein each, or "full" ones of one protein
            as long as the row.
        rows: b.
        length: t.
    """
    rng = np.random.default_rng(0)
    wanted = rows * BATCHES
    # Shorter rows, of the toy, get shorter proteins.
    lengths = inputs.protein_lengths(rng, SEGMENTS * wanted + 64, ROW) * length // ROW
    lengths = np.maximum(lengths, SHORTEST)
    if kind == "full":
        lengths[:] = length
    placed: list[list[int]] = [[i] for i in range(wanted)]
    if kind == "packed":
        packer = OpenRows(length, SEGMENTS)
        placed = packer.add(list(range(len(lengths))), lengths.tolist())[:wanted]
    batches, used = [], []
    for start in range(0, wanted, rows):
        chosen = placed[start : start + rows]
        batches.append(_batch(rng, chosen, lengths, length))
        used += [lengths[i] for row in chosen for i in row]
    taken = np.asarray(used, np.float64)
    attended = float((taken * taken).sum() / taken.sum())
    return Rows(batches, float(taken.sum()) / BATCHES, attended)


def _batch(
    rng: np.random.Generator, rows: list[list[int]], lengths: np.ndarray, length: int
) -> Batch:
    """One batch (b, t) of the sequences named in each row, letters drawn anew."""
    counts = np.array([len(row) for row in rows])
    chosen = lengths[np.concatenate(rows)]
    row = np.repeat(np.arange(len(rows)), counts)
    segment = np.arange(len(chosen)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.cumsum(chosen) - chosen
    columns = starts - np.repeat(starts[np.cumsum(counts) - counts], counts)
    tokens, segment_ids, positions = fill_rows(
        np.concatenate(inputs.proteins(rng, chosen)),
        starts,
        chosen,
        np.stack([row, segment], axis=1),
        columns,
        (len(rows), length),
        PAD,
    )
    examples = np.full((len(rows), SEGMENTS), -1, np.int32)
    examples[row, segment] = np.arange(len(chosen))
    return Batch(tokens, segment_ids, positions, examples)


def masked(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with 15 % of the residues hidden (80/10/10), and labels, -100 elsewhere; int64."""
    rng = np.random.default_rng(1)
    residue = np.isin(batch.tokens, inputs.RESIDUES)
    hidden = residue & (rng.random(batch.tokens.shape) < 0.15)
    action = rng.random(batch.tokens.shape)
    shown = np.where(action < 0.8, MASK, batch.tokens)
    shown = np.where(action >= 0.9, rng.choice(inputs.RESIDUES, batch.tokens.shape), shown)
    tokens = np.where(hidden, shown, batch.tokens).astype(np.int64)
    return tokens, np.where(hidden, batch.tokens, -100).astype(np.int64)
