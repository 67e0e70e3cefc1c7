"""What an experiment asks of its data, whatever the modality."""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sized
from typing import Any, ClassVar, Protocol

import numpy as np

from biofm_jax.data.tokenizers import Vocabulary


class Store(Protocol):
    """The opened records of a data set."""

    def digest(self) -> str:
        """Hex digits that are the same on two hosts whose records are."""


class Batches(Protocol):
    """An endless or finite iterator of batches that goes on where a checkpoint stopped.

    A batch is a frozen dataclass of arrays with a leading row axis, known to JAX as a tree. It
    has `tokens` and `segment_ids` (0 in padding), by which the trainer counts, and `examples`
    (b, s), numbers of records, -1 in an empty slot.
    """

    def __iter__(self) -> Iterator[Any]:
        """Itself."""

    def __next__(self) -> Any:
        """This host's rows of the next batch, as numpy arrays."""

    def state(self) -> dict:
        """JSON-able resume point behind the batches returned so far, the same on every host."""

    def restore(self, state: dict) -> None:
        """Go to a resume point."""

    def names(self, batch: Any) -> list[str]:
        """Ids of the records in a batch."""


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How long the documents of a data set are, in tokens of a row.

    Attributes:
        attended: length of the document that a token stands in, the mean over tokens.
        fill: share of a row that is no padding; packed rows are taken as full.
    """

    attended: float
    fill: float


class DataSpec(abc.ABC):
    """Base of the frozen dataclasses that describe an experiment's data.

    A subclass has the field or property `max_tokens`: what a row holds, counted in `unit`.
    """

    kind: ClassVar[str]
    """The modality."""
    unit: ClassVar[str] = "tokens"

    path: str = ""
    max_tokens: int
    holdout: float = 0.0
    """Share of records kept for the validation loss."""
    views: int = 0
    """Random texts kept of each record for contrastive pairs."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Of the tokens; None where there are none."""
        return None

    @property
    def counted(self) -> str:
        """What the trainer counts, in all views: `unit`, and what the other view is made of."""
        return self.unit

    @property
    def spare_rows(self) -> bool:
        """Whether a model may have more embeddings than there are tokens."""
        return False

    @property
    def attended(self) -> float:
        """What a token attends to where a row is one document."""
        return float(self.max_tokens)

    def lengths(self) -> Lengths | None:
        """How long the documents are, which are read; None where nobody has counted them.

        Raises:
            UserError: as `open`.
        """
        return None

    @abc.abstractmethod
    def shapes(self, rows: int, paired: bool = False) -> Any:
        """The shapes of a batch of so many rows, with nothing read; `paired`: of two views."""

    @abc.abstractmethod
    def open(self) -> Store:
        """The records, prepared on first use.

        Raises:
            UserError: the path is empty or holds something else; bad records.
        """

    @abc.abstractmethod
    def batches(
        self,
        store: Any,
        *,
        batch_size: int,
        seed: int,
        share: np.ndarray | None = None,
        epochs: int | None = None,
        holdout: bool = False,
    ) -> Batches:
        """Batches of this host, for training or for the validation loss.

        Args:
            store: what `open` returned.
            batch_size: rows of a batch over all hosts.
            seed: of everything random.
            share: (b,) numbers of the rows that this host builds; None for all.
            epochs: passes over the records; None never ends.
            holdout: once through the held-out records in a fixed order.

        Raises:
            UserError: no record is on the side asked for.
        """


class ExampleData(DataSpec):
    """Data of examples that also come one by one: what is embedded, probed and fine-tuned on.

    A subclass has the field or property `segments`, the most examples in a row.
    """

    segments: int

    @property
    def longest(self) -> int:
        """Tokens of the longest row that a model trained on this reads, when it is adapted."""
        return self.max_tokens

    @abc.abstractmethod
    def clean(self, text: str) -> str:
        """What to keep of an item of a task.

        Raises:
            BadText: it cannot be used.
        """

    @abc.abstractmethod
    def to_example(self) -> Callable[[str], Sized]:
        """What makes of a cleaned item that which stands in rows: ids, a graph, an image."""
