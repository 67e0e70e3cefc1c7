"""Molecules in three dimensions: their atoms with coordinates in memory maps and in packed rows."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.pipeline import RowBuilder
from biofm_jax.data.token_store import TokenStore, publish, text_hash
from biofm_jax.data.tokenizers import Vocabulary, id_dtype

FORMAT = 1  # raised when the layout of the files below changes


@dataclasses.dataclass(frozen=True, eq=False)
class ConformerExample:
    """One molecule in space.

    Attributes:
        ids: (t,) id of each atom's element, cls before and sep behind them.
        coordinates: (t, 3) float32 in angstrom, the centre of the atoms at the origin, where cls
            and sep stand too.
    """

    ids: np.ndarray
    coordinates: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class ConformerStore(TokenStore):
    """The molecules of a data set in space.

    Attributes:
        coordinates: (n, 3) float32, beside `ids`.
    """

    coordinates: np.ndarray

    @classmethod
    def from_examples(
        cls, examples: Sequence[ConformerExample], vocabulary: Vocabulary
    ) -> "ConformerStore":
        """A store in memory; the name of a record is its number.

        Args:
            examples: at least one.
            vocabulary: of the elements.
        """
        tokens = TokenStore.from_arrays([example.ids for example in examples], vocabulary)
        fields = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens)}
        return cls(**fields, coordinates=np.concatenate([each.coordinates for each in examples]))


@dataclasses.dataclass(frozen=True)
class ConformerRows(RowBuilder):
    """Builds batches with the field `coordinates` from a `ConformerStore`.

    Raises:
        ValueError: a molecule that is longer than a row; it cannot be cut as a sequence can.
    """

    store: ConformerStore

    def __post_init__(self):
        longest = int(self.store.lengths().max(initial=0))
        if longest > self.max_tokens:
            raise ValueError(f"a molecule of {longest} atoms in rows of {self.max_tokens}")

    def _view(self, sequence, visits, placement, columns, examples, salt) -> Batch:
        batch = super()._view(sequence, visits, placement, columns, examples, salt)
        starts = self.store.offsets[sequence]
        counts = self.store.offsets[sequence + 1] - starts
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        target = np.repeat(placement[:, 0] * self.max_tokens + columns, counts) + within
        coordinates = np.zeros((self.batch_size * self.max_tokens, 3), np.float32)
        coordinates[target] = self.store.coordinates[np.repeat(starts, counts) + within]
        return batch.replace(coordinates=coordinates.reshape(self.batch_size, self.max_tokens, 3))


def open_conformers(
    folder: Path,
    fingerprint: str,
    vocabulary: Vocabulary,
    chunks: Callable[[], Iterable[list[tuple[str, ConformerExample]]]],
    names: Callable[[Sequence[int]], list[str]],
    notes: Callable[[], dict],
) -> ConformerStore:
    """The store cached in a prepared data set, made on the first call.

    Args:
        folder: the prepared data set; the store becomes a folder inside.
        fingerprint: of how coordinates are made, part of the store's name.
        vocabulary: of the elements.
        chunks: lists of records, each a text and its molecule; called if the store is absent.
        names: ids of records by number.
        notes: what `store.json` records beside the layout; called behind the chunks.
    """
    place = folder / f"conformers-{FORMAT}-{fingerprint}"
    if not place.is_dir():
        _write(place, vocabulary, chunks(), notes)
    return ConformerStore(
        ids=np.load(place / "ids.npy", mmap_mode="r"),
        offsets=np.load(place / "offsets.npy"),
        hashes=np.load(place / "hashes.npy"),
        views=1,
        vocabulary=vocabulary,
        names=names,
        coordinates=np.load(place / "coordinates.npy", mmap_mode="r"),
    )


def _write(
    place: Path,
    vocabulary: Vocabulary,
    chunks: Iterable[list[tuple[str, ConformerExample]]],
    notes: Callable[[], dict],
) -> None:
    """Write the store beside `place` and rename it, so that it is whole or absent."""
    ids, coordinates, lengths, hashes = [], [], [0], []
    for chunk in chunks:
        examples = [example for _, example in chunk]
        ids.append(np.concatenate([example.ids for example in examples]))
        coordinates.append(np.concatenate([example.coordinates for example in examples]))
        lengths += map(len, examples)
        hashes += [text_hash(text) for text, _ in chunk]
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        np.save(temporary / "ids.npy", np.concatenate(ids).astype(id_dtype(vocabulary.size)))
        np.save(temporary / "coordinates.npy", np.concatenate(coordinates).astype(np.float32))
        np.save(temporary / "offsets.npy", np.cumsum(lengths))
        np.save(temporary / "hashes.npy", np.array(hashes, np.uint64))
        (temporary / "store.json").write_text(json.dumps({"format": FORMAT, **notes()}))
        publish(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
