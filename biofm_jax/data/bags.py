"""Bags of vectors, such as the tiles of a slide: in memory, and in packed rows of fixed shape."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.pipeline import RowBuilder
from biofm_jax.data.token_store import TokenStore
from biofm_jax.data.tokenizers import Vocabulary

VECTOR = 1  # the token that stands for one
VOCABULARY = Vocabulary.of(("<pad>", "<vector>"))


@dataclasses.dataclass(frozen=True, eq=False)
class BagExample:
    """One bag.

    Attributes:
        vectors: (t, d) float32.
        places: (t,) int32, where each lies: numbers of a raster.
    """

    vectors: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)


@dataclasses.dataclass(frozen=True)
class BagStore(TokenStore):
    """The bags of a data set.

    Attributes:
        vectors: (n, d) float32, beside `ids`.
        places: (n,) int32.
    """

    vectors: np.ndarray
    places: np.ndarray

    @classmethod
    def from_examples(cls, examples: Sequence[BagExample]) -> "BagStore":
        """A store in memory; the name of a record is its number.

        Args:
            examples: at least one.
        """
        ids = [np.full(len(example), VECTOR) for example in examples]
        tokens = TokenStore.from_arrays(ids, VOCABULARY)
        fields = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens)}
        return cls(
            **fields,
            vectors=np.concatenate([example.vectors for example in examples]),
            places=np.concatenate([example.places for example in examples]),
        )


@dataclasses.dataclass(frozen=True)
class BagRows(RowBuilder):
    """Builds batches with the field `vectors`, whose `positions` are the places.

    A bag that is longer than a row takes part as a run of neighbours in its order, another one
    each epoch.
    """

    store: BagStore

    def _view(self, sequence, visits, placement, columns, examples, salt) -> Batch:
        batch = super()._view(sequence, visits, placement, columns, examples, salt)
        starts = self.store.offsets[sequence]
        lengths = self.store.offsets[sequence + 1] - starts
        excess = np.maximum(lengths - self.max_tokens, 0)
        starts = starts + self._shift(visits, excess, salt)
        counts = lengths - excess
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        source = np.repeat(starts, counts) + within
        target = np.repeat(placement[:, 0] * self.max_tokens + columns, counts) + within
        shape = (self.batch_size, self.max_tokens)
        vectors = np.zeros((self.batch_size * self.max_tokens, self.store.vectors.shape[1]),
                           np.float32)  # fmt: skip
        places = np.zeros(self.batch_size * self.max_tokens, np.int32)
        vectors[target], places[target] = self.store.vectors[source], self.store.places[source]
        return batch.replace(vectors=vectors.reshape(*shape, -1), positions=places.reshape(shape))
