"""Blocks of a table of labels: some rows' things, some columns' things, and all labels between."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from biofm_jax.data.batch import Batch
from biofm_jax.data.pipeline import RowBuilder


@dataclasses.dataclass(frozen=True)
class PairBlocks:
    """Things of two kinds and what is known of their pairs.

    A block of p first and q second things has up to p x q labels and costs p + q passes of the
    models that read them: pairs drawn one by one would cost two passes each.

    Attributes:
        first: builds rows of one thing each, p to a block.
        second: the same of the other kind, q to a block.
        labels: (m, n, k) float32 of every pair; nan = not measured.
    """

    first: RowBuilder
    second: RowBuilder
    labels: Float[np.ndarray, "m n k"]

    def block(self, rows: np.ndarray, columns: np.ndarray) -> Batch:
        """A batch (p, t) with its pair (q, u), targets and weights (p, q, k).

        Args:
            rows: up to p numbers of first things; fewer leave rows empty.
            columns: up to q numbers of second things.
        """
        batch = self.first.batch([[int(i)] for i in rows])
        pair = self.second.batch([[int(i)] for i in columns])
        shape = (self.first.batch_size, self.second.batch_size, self.labels.shape[2])
        targets, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        cells = self.labels[np.ix_(rows, columns)]
        inside = (slice(len(rows)), slice(len(columns)))
        targets[inside], weights[inside] = np.nan_to_num(cells), ~np.isnan(cells)
        return batch.replace(pair=pair, targets=targets, weights=weights)

    def fullest(self, most: int) -> list[Batch]:
        """The blocks of a fixed tiling that have most labels, in the order of the table."""
        p, q = self.first.batch_size, self.second.batch_size
        m, n, _ = self.labels.shape
        tiles = [
            (np.arange(i, min(i + p, m)), np.arange(j, min(j + q, n)))
            for i in range(0, m, p)
            for j in range(0, n, q)
        ]
        counts = np.array([(~np.isnan(self.labels[np.ix_(*tile)])).sum() for tile in tiles])
        chosen = np.sort(np.argsort(-counts, kind="stable")[:most])
        return [self.block(*tiles[i]) for i in chosen if counts[i]]


class ShuffledBlocks:
    """Endless random blocks; each depends on the seed and its number alone.

    The columns are drawn first, among those with a label, then rows among those that have a label
    in one of these columns.

    Args:
        blocks: with at least one label.
        seed: of the draws.
    """

    def __init__(self, blocks: PairBlocks, seed: int):
        self._blocks, self._seed, self._next = blocks, seed, 0
        self._known = (~np.isnan(blocks.labels)).any(2)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        rng = np.random.default_rng([self._seed, self._next])
        self._next += 1
        columns = np.flatnonzero(self._known.any(0))
        columns = rng.permutation(columns)[: self._blocks.second.batch_size]
        rows = np.flatnonzero(self._known[:, columns].any(1))
        rows = rng.permutation(rows)[: self._blocks.first.batch_size]
        return self._blocks.block(rows, columns)

    def state(self) -> dict:
        """JSON-able: the next block."""
        return {"next": self._next}

    def restore(self, state: dict) -> None:
        """Go to a position that `state` gave."""
        self._next = state["next"]

    def names(self, batch: Batch) -> list[str]:
        """Numbers of the first things in a block."""
        examples = np.asarray(batch.examples)
        return [f"row {number}" for number in examples[examples >= 0]]
