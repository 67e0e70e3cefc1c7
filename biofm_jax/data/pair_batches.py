"""Batches of labelled pairs of two kinds of things, each named by its number in a table."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from biofm_jax.data.batch import Batch


@dataclasses.dataclass(frozen=True)
class Pairs:
    """n pairs with k labels.

    Attributes:
        numbers: (n, 2) int32 rows of the first and of the second table.
        labels: (n, k) float32; nan = missing.
    """

    numbers: Int[np.ndarray, "n 2"]
    labels: Float[np.ndarray, "n k"]

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, chosen: np.ndarray, size: int) -> Batch:
        """Some pairs as rows of two tokens, the numbers, filled up with empty rows.

        Args:
            chosen: (m,) which pairs, m at most `size`.
            size: b, rows.
        """
        m, rows = len(chosen), np.zeros((size, 2), np.int32)
        tokens, segment_ids, positions = rows, rows.copy(), rows + np.arange(2, dtype=np.int32)
        examples = np.full((size, 1), -1, np.int32)
        tokens[:m], segment_ids[:m], examples[:m, 0] = self.numbers[chosen], 1, chosen
        targets = np.zeros((size, 1, self.labels.shape[1]), np.float32)
        weights = np.zeros_like(targets)
        known = ~np.isnan(self.labels[chosen])
        targets[:m, 0] = np.where(known, self.labels[chosen], 0.0)
        weights[:m, 0] = known
        return Batch(tokens, segment_ids, positions, examples, targets, weights)

    def once(self, size: int) -> Iterator[Batch]:
        """All pairs in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))), size)


class ShuffledPairs:
    """Endless batches, in a new order each epoch; a batch depends on seed and number alone.

    Args:
        pairs: at least one.
        size: b, rows of a batch.
        seed: of the orders.
    """

    def __init__(self, pairs: Pairs, size: int, seed: int):
        self._pairs, self._size, self._seed, self._next = pairs, size, seed, 0
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __iter__(self) -> "ShuffledPairs":
        return self

    def __next__(self) -> Batch:
        size, chosen = min(self._size, len(self._pairs)), []
        start = self._next * size
        while sum(map(len, chosen)) < size:
            epoch, place = divmod(start + sum(map(len, chosen)), len(self._pairs))
            if epoch != self._epoch:
                rng = np.random.default_rng([self._seed, epoch])
                self._epoch, self._order = epoch, rng.permutation(len(self._pairs))
            chosen.append(self._order[place : place + size - sum(map(len, chosen))])
        self._next += 1
        return self._pairs.batch(np.concatenate(chosen), self._size)

    def state(self) -> dict:
        """JSON-able: the next batch."""
        return {"next": self._next}

    def restore(self, state: dict) -> None:
        """Go to a position that `state` gave."""
        self._next = state["next"]

    def names(self, batch: Batch) -> list[str]:
        """Numbers of the pairs in a batch."""
        examples = np.asarray(batch.examples)
        return [f"pair {number}" for number in examples[examples >= 0]]
