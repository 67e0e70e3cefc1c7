"""Batches of packed rows: order from Grain, shared by rows among hosts, exactly resumable."""

import dataclasses
import functools
import math
import sys
from typing import Any, Protocol

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.packing import OpenRows, fill_rows, plan_rows
from biofm_jax.data.token_store import TokenStore
from biofm_jax.errors import UserError

BLOCK = 256  # records that Grain hands out at a time


@dataclasses.dataclass(frozen=True)
class RowBuilder:
    """Turns rows of visits into a batch.

    A visit is one use of a record: `epoch * len(store) + record`. All that is random about it
    (the window of a long sequence, the two views) is a hash of visit and seed, so that it does
    not depend on packing, hosts or where a run was resumed.

    Attributes:
        store: the sequences.
        max_tokens: t, length of a row.
        segments: s, most examples in a row.
        batch_size: b, rows of a batch on this host.
        seed: of windows and views.
        labels: (records, k) float32 to become `targets` (b, s, k); NaN is a missing label.
        weights: (records, k) float32, by default 1 for every label that is there.
    """

    store: TokenStore
    max_tokens: int
    segments: int
    batch_size: int
    seed: int = 0
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None

    def lengths(self, visits: np.ndarray) -> np.ndarray:
        """(m,) tokens that each visit takes in a row: the longer view, at most a row."""
        longest = np.zeros(len(visits), np.int64)
        for sequence in self._sequences(visits):
            lengths = self.store.offsets[sequence + 1] - self.store.offsets[sequence]
            longest = np.maximum(longest, lengths)
        return np.minimum(longest, self.max_tokens)

    def batch(self, rows: list[list[int]]) -> Batch:
        """Build a batch; rows that are missing at the end stay empty.

        Args:
            rows: at most `batch_size` lists of at most `segments` visits.
        """
        counts = np.fromiter(map(len, rows), np.int64, len(rows))
        visits = np.fromiter((visit for row in rows for visit in row), np.int64, counts.sum())
        row = np.repeat(np.arange(len(rows)), counts)
        segment = np.arange(len(visits)) - np.repeat(np.cumsum(counts) - counts, counts)
        placement = np.stack([row, segment], axis=1)
        before = np.concatenate([[0], np.cumsum(self.lengths(visits))])
        columns = before[:-1] - np.repeat(before[np.cumsum(counts) - counts], counts)
        examples = np.full((self.batch_size, self.segments), -1, np.int32)
        examples[row, segment] = visits % len(self.store)
        views = [
            self._view(sequence, visits, placement, columns, examples, salt)
            for salt, sequence in enumerate(self._sequences(visits))
        ]
        batch = views[0].replace(pair=views[1]) if len(views) > 1 else views[0]
        if self.labels is None:
            return batch
        targets, weights = _spread(self.labels, self.weights, examples)
        return batch.replace(targets=targets, weights=weights)

    def _sequences(self, visits: np.ndarray) -> list[np.ndarray]:
        """The sequence of each visit in the store; two lists where the store holds views."""
        records, views = visits % len(self.store), self.store.views
        if views == 1:
            return [records]
        # View 0 is the canonical text; two different ones of the random views 1 to views - 1.
        first = _draw(visits, self.seed, 1, np.full(len(visits), views - 1))
        other = _draw(visits, self.seed, 2, np.full(len(visits), views - 2))
        second = (first + 1 + other) % (views - 1)
        return [records * views + 1 + first, records * views + 1 + second]

    def _view(self, sequence, visits, placement, columns, examples, salt) -> Batch:
        starts = self.store.offsets[sequence]
        lengths = self.store.offsets[sequence + 1] - starts
        excess = np.maximum(lengths - self.max_tokens, 0)
        starts = starts + self._shift(visits, excess, salt)
        tokens, segment_ids, positions = fill_rows(
            self.store.ids,
            starts,
            lengths - excess,
            placement,
            columns,
            (self.batch_size, self.max_tokens),
            self.store.vocabulary.pad,
        )
        return Batch(tokens, segment_ids, positions, examples)

    def _shift(self, visits: np.ndarray, excess: np.ndarray, salt: int) -> np.ndarray:
        """(m,) where the window of a sequence starts that is longer than a row."""
        # As ESM-2 was trained: a window holds cls or eos only where the sequence really begins
        # or ends (Lin et al. 2023, supplement A.1).
        return _draw(visits, self.seed, 3 + salt, excess + 1)


class RowStream(Protocol):
    """Rows of visits in the order of training or evaluation."""

    def take(self, count: int) -> list[list[int]]:
        """The next rows, `count` of them or fewer at the end."""

    def state(self) -> dict:
        """JSON-able position behind the rows taken so far."""

    def restore(self, state: dict) -> None:
        """Go to a position that `state` gave."""


class ShuffledRows:
    """An endless or finite stream: a new global order each epoch, packed as it comes.

    Grain numbers blocks of `BLOCK` places in the order and keeps the position. The order of an
    epoch is one permutation, drawn from seed and epoch (4 bytes a record).

    Args:
        builder: knows the lengths.
        records: numbers of the records to go through.
        epochs: passes over the records; None never ends.
    """

    def __init__(
        self,
        builder: RowBuilder,
        records: np.ndarray,
        *,
        epochs: int | None = None,
    ):
        import grain

        if not len(records):
            raise ValueError("there are no records to go through")
        self._builder = builder
        self._settings = {
            "records": len(records),
            "stored_tokens": len(builder.store.ids),
            "max_tokens": builder.max_tokens,
            "segments": builder.segments,
            "seed": builder.seed,
        }
        self._records = records
        self._epoch, self._order = -1, records
        self._block = max(1, min(BLOCK, len(records) // 4))
        blocks = math.ceil(len(records) / self._block)
        count = blocks * epochs if epochs is not None else sys.maxsize // 2
        indices = grain.MapDataset.range(count)
        visits = indices.map(lambda index: self._visits(*divmod(int(index), blocks)))
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._blocks = iter(visits.to_iter_dataset(options))
        self._open = OpenRows(builder.max_tokens, builder.segments)
        self._ready: list[list[int]] = []

    def take(self, count: int) -> list[list[int]]:
        """The next rows, `count` of them or fewer at the end."""
        while len(self._ready) < count:
            visits = next(self._blocks, None)
            if visits is None:
                self._ready += self._open.close()
                break
            lengths = self._builder.lengths(visits)
            self._ready += self._open.add(visits.tolist(), lengths.tolist())
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def state(self) -> dict:
        """JSON-able: Grain's position, and the visits in rows that are open or not yet taken."""
        return {
            "settings": self._settings,
            "grain": self._blocks.get_state(),
            "open": [list(row) for row in self._open.rows()],
            "ready": [list(row) for row in self._ready],
        }

    def restore(self, state: dict) -> None:
        """Go to a position that `state` gave.

        Raises:
            UserError: the data or a setting that decides the order is another now.
        """
        for name, value in self._settings.items():
            if state["settings"][name] != value:
                raise UserError(
                    f"the checkpoint's data had {name} = {state['settings'][name]}, now it is "
                    f"{value}: the order cannot be continued; go back to the old data and "
                    "settings, or start in a new workdir"
                )
        self._blocks.set_state(state["grain"])
        left = [
            self._builder.max_tokens - int(self._builder.lengths(np.array(row)).sum())
            for row in state["open"]
        ]
        self._open.restore(state["open"], left)
        self._ready = [list(row) for row in state["ready"]]

    def _visits(self, epoch: int, block: int) -> np.ndarray:
        if epoch != self._epoch:
            generator = np.random.default_rng([self._builder.seed, epoch])
            self._order = generator.permutation(self._records.astype(np.int32))
            self._epoch = epoch
        places = self._order[block * self._block : (block + 1) * self._block]
        return places.astype(np.int64) + epoch * len(self._builder.store)


class FixedRows:
    """Once through the records, packed longest first, the same batches on every call.

    Args:
        builder: knows the lengths.
        records: numbers of the records to go through.
    """

    def __init__(self, builder: RowBuilder, records: np.ndarray):
        rows = plan_rows(builder.lengths(records), builder.max_tokens, builder.segments)
        self._rows = [records[row].tolist() for row in rows]
        self._next = 0

    def take(self, count: int) -> list[list[int]]:
        """The next rows, `count` of them or fewer at the end."""
        start, self._next = self._next, self._next + count
        return self._rows[start : start + count]

    def state(self) -> dict:
        """JSON-able: the next row."""
        return {"next_row": self._next}

    def restore(self, state: dict) -> None:
        """Go to a position that `state` gave."""
        self._next = state["next_row"]


class BatchIterator:
    """Batches of numpy arrays, this host's rows only, all of one shape.

    Every host packs the whole order, 300,000 sequences a second, and builds its own rows. So the
    batches do not depend on the number of hosts, all hosts give as many, and a position is the
    same on each: a run goes on with any other number of them.

    Args:
        rows: the order of all hosts together.
        builder: makes the arrays.
        share: numbers of this host's rows of each batch, as many as the builder's `batch_size`;
            None for all.
        total: rows of a batch over all hosts; None for the builder's.
    """

    def __init__(
        self,
        rows: RowStream,
        builder: RowBuilder,
        share: np.ndarray | None = None,
        total: int | None = None,
    ):
        self._rows = rows
        self._builder = builder
        self._total = builder.batch_size if total is None else total
        self._share = np.arange(builder.batch_size) if share is None else share

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Batch:
        rows = self._rows.take(self._total)
        if not rows:
            raise StopIteration
        return self._builder.batch([rows[i] if i < len(rows) else [] for i in self._share])

    def state(self) -> dict:
        """JSON-able resume point behind the batches returned so far."""
        return self._rows.state()

    def restore(self, state: dict) -> None:
        """Go to a resume point of an iterator with the same settings."""
        self._rows.restore(state)

    def names(self, batch: Batch) -> list[str]:
        """Ids of the records in a batch, row by row."""
        examples = np.asarray(batch.examples)
        return self._builder.store.names(examples[examples >= 0].tolist())


def _spread(
    labels: np.ndarray, weights: np.ndarray | None, examples: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (records, k) to targets and weights (b, s, k), 0 in empty slots."""
    if weights is None:
        weights = np.ones_like(labels)
    there = (examples >= 0)[:, :, None] & ~np.isnan(labels[examples])
    targets = np.where(there, labels[examples], 0).astype(np.float32)
    return targets, np.where(there, weights[examples], 0).astype(np.float32)


def _draw(visits: np.ndarray, seed: int, salt: int, below: np.ndarray) -> np.ndarray:
    """A number from 0 to `below` - 1 for each visit (splitmix64 of visit, seed and salt)."""
    mixed = np.uint64((seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03) % 2**64)
    z = visits.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + mixed
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)) % below.astype(np.uint64)).astype(np.int64)


def split_batches(
    data: Any,
    store: TokenStore,
    batch_size: int,
    seed: int,
    share: np.ndarray | None,
    epochs: int | None,
    holdout: bool,
) -> BatchIterator:
    """Batches of the records on one side of the held-out split; see `DataSpec.batches`.

    Args:
        data: has `path`, `holdout`, `fraction` and `row_builder`.
        store: its opened records.
        batch_size: rows of a batch over all hosts.
        seed: of everything random.
        share: (b,) numbers of the rows that this host builds; None for all.
        epochs: passes over the records; None never ends.
        holdout: once through the held-out records in a fixed order.

    Raises:
        UserError: no record is on the side asked for.
    """
    records = store.split(data.holdout, held=holdout, fraction=data.fraction)
    if not len(records):
        side = "held out" if holdout else "left to train on"
        raise UserError(
            f"{data.path}: none of {len(store)} records is {side}; change --data.holdout"
            + ("" if data.fraction == 1 else " or --data.fraction")
        )
    local = batch_size if share is None else len(share)
    builder = data.row_builder(store, local, seed)
    shuffled = functools.partial(ShuffledRows, epochs=epochs)
    rows = (FixedRows if holdout else shuffled)(builder, records)
    return BatchIterator(rows, builder, share, batch_size)
