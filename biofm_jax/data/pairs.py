"""Two views of each record from two stores, packed by the same rows, so that their slots agree."""

import dataclasses

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.pipeline import RowBuilder
from biofm_jax.data.token_store import TokenStore
from biofm_jax.data.tokenizers import Vocabulary


@dataclasses.dataclass(frozen=True)
class PairStore:
    """Two stores of the same records in the same order, such as graphs and SMILES.

    Attributes:
        first: becomes the batch.
        second: becomes its `pair`.
        contents: (2, records) int32, for each view numbers that are the same where it is; None:
            `Batch.contents` is not told.

    Raises:
        ValueError: the records differ, or a store has several views of its own.
    """

    first: TokenStore
    second: TokenStore
    contents: np.ndarray | None = None

    views = 1

    def __post_init__(self):
        if not np.array_equal(self.first.hashes, self.second.hashes):
            raise ValueError(f"stores of {len(self.first)} and {len(self.second)} other records")
        if (self.first.views, self.second.views) != (1, 1):
            raise ValueError("a pair is of one view from each store")

    def __len__(self) -> int:
        return len(self.first)

    @property
    def ids(self) -> np.ndarray:
        """(n,) of the first view."""
        return self.first.ids

    @property
    def hashes(self) -> np.ndarray:
        """(records,) uint64 of the text; equal texts have equal hashes."""
        return self.first.hashes

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the first view."""
        return self.first.vocabulary

    def names(self, records) -> list[str]:
        """Ids of records by number."""
        return self.first.names(records)

    def lengths(self) -> np.ndarray:
        """(records,) int64 tokens of the first view of each."""
        return self.first.lengths()

    def digest(self) -> str:
        """A fingerprint of the records and of the lengths of both views."""
        return self.first.digest() + self.second.digest()

    def split(self, holdout: float, *, held: bool, fraction: float = 1.0) -> np.ndarray:
        """As `TokenStore.split`."""
        return self.first.split(holdout, held=held, fraction=fraction)


@dataclasses.dataclass(frozen=True)
class PairRows:
    """Builds batches whose `pair` holds example i of row r in slot i of row r too.

    The rows of the views may differ in length. A record takes of a row what the longer of its
    views takes, each measured by its own row: what fits by that fits in both.

    Attributes:
        store: of both.
        first: builds the batch.
        second: builds its pair; as many rows and slots as the first, and the same seed.
    """

    store: PairStore
    first: RowBuilder
    second: RowBuilder

    @property
    def max_tokens(self) -> int:
        """The unit of `lengths`: tokens of the longer of the two rows."""
        return max(self.first.max_tokens, self.second.max_tokens)

    @property
    def segments(self) -> int:
        """Most examples in a row."""
        return self.first.segments

    @property
    def batch_size(self) -> int:
        """Rows of a batch on this host."""
        return self.first.batch_size

    @property
    def seed(self) -> int:
        """Of windows."""
        return self.first.seed

    def lengths(self, visits: np.ndarray) -> np.ndarray:
        """(m,) what each visit takes of a row of `max_tokens`."""
        taken = np.zeros(len(visits), np.int64)
        for view in (self.first, self.second):
            own = view.lengths(visits)
            taken = np.maximum(taken, -(-own * self.max_tokens // view.max_tokens))
        return taken

    def batch(self, rows: list[list[int]]) -> Batch:
        """As `RowBuilder.batch`, both views."""
        views = [view.batch(rows) for view in (self.first, self.second)]
        if self.store.contents is not None:
            views = [
                view.replace(contents=np.where(view.examples < 0, -1, numbers[view.examples]))
                for view, numbers in zip(views, self.store.contents, strict=True)
            ]
        return views[0].replace(pair=views[1])
