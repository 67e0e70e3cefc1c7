"""Synthetic slides with planted lesions: bags of tile vectors whose answer is known.

No picture is made: a tile is the vector that an encoder of tiles would give.
"""

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from biofm_jax.data.api import DataSpec
from biofm_jax.data.bags import VOCABULARY, BagExample, BagRows, BagStore
from biofm_jax.data.batch import Batch, batch_shapes
from biofm_jax.data.pipeline import BatchIterator, FixedRows, ShuffledRows
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError

TISSUES = 5  # kinds of healthy tissue, each around a vector of its own
SIDE = 64  # of the raster that tiles lie on
LESION = 1.2  # length of what a lesion adds to a tile; the noise has length 1


@dataclasses.dataclass(frozen=True, eq=False)
class PlantedSlide:
    """One slide.

    Attributes:
        bag: the tiles.
        lesion: (t,) bool, which of them show the lesion.
    """

    bag: BagExample
    lesion: np.ndarray


def planted_slide(
    number: int, seed: int, tiles: tuple[int, int], width: int, share: float
) -> PlantedSlide:
    """A slide by its number: the odd ones have a lesion.

    Tissue lies in bands of one kind; a lesion is a run of neighbouring tiles to which the same
    vector is added, whatever the tissue. All slides of one seed share these vectors.

    Args:
        number: of the slide.
        seed: of all that is random.
        tiles: fewest and most of a slide.
        width: d, of a tile's vector.
        share: of the tiles of a slide that the lesion takes; at least one tile.
    """
    atlas = np.random.default_rng([seed, 0])
    tissue = atlas.normal(size=(TISSUES, width)) / np.sqrt(width)
    added = atlas.normal(size=width)
    added *= LESION / np.linalg.norm(added)
    rng = np.random.default_rng([seed, 1 + number])
    count = int(rng.integers(tiles[0], tiles[1] + 1))
    places = np.sort(rng.choice(SIDE * SIDE, count, replace=False))
    kinds = rng.integers(0, TISSUES, SIDE)[places // SIDE]
    vectors = tissue[kinds] + rng.normal(size=(count, width)) / np.sqrt(width)
    lesion = np.zeros(count, bool)
    if number % 2:
        length = max(1, round(share * count))
        start = int(rng.integers(0, count - length + 1))
        lesion[start : start + length] = True
        vectors[lesion] += added
    return PlantedSlide(BagExample(vectors.astype(np.float32), places.astype(np.int32)), lesion)


@dataclasses.dataclass(frozen=True)
class PlantedStore(BagStore):
    """Planted slides as bags.

    Attributes:
        labels: (slides, 1) float32, 1 where there is a lesion.
        lesion: (n,) bool of each tile.
    """

    labels: np.ndarray
    lesion: np.ndarray

    def digest(self) -> str:
        """See `Store`; all follows from the seed, which each host has."""
        return super().digest() + f"-{float(self.vectors.sum()):.6e}"


@dataclasses.dataclass(frozen=True)
class PlantedSlides(DataSpec):
    """Slides that are drawn from a seed: the attention of what learns them can be judged."""

    slides: int = 400
    """How many; the odd ones have a lesion."""
    fewest: int = 60
    """Tiles of the smallest slide."""
    max_tokens: int = 192
    """Tiles of the largest slide, and of a row."""
    width: int = 32
    """Of a tile's vector."""
    share: float = 0.02
    """Of a slide's tiles that its lesion takes."""
    seed: int = 0
    """Of the slides."""
    holdout: float = 0.25
    """Share kept for the validation loss: the last slides."""

    kind: ClassVar[str] = "imaging"
    unit: ClassVar[str] = "tiles"
    segments: ClassVar[int] = 1

    def __post_init__(self):
        if self.slides < 2 or not 0 < self.fewest <= self.max_tokens <= SIDE * SIDE:
            raise UserError(
                f"data.slides is {self.slides}, fewest {self.fewest} and max_tokens "
                f"{self.max_tokens}; give 2 slides or more, of 1 to {SIDE * SIDE} tiles"
            )
        if not 0 < self.share < 1 or not 0 <= self.holdout < 1 or self.width < 1:
            raise UserError(
                f"data.share is {self.share}, holdout {self.holdout} and width {self.width}; the "
                "first two are shares below 1, the last is 1 or more"
            )

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the one token that stands for a tile."""
        return VOCABULARY

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many slides."""
        vectors = jax.ShapeDtypeStruct((rows, self.max_tokens, self.width), np.float32)
        targets = jax.ShapeDtypeStruct((rows, 1, 1), np.float32)
        more = {"vectors": vectors, "targets": targets, "weights": targets}
        return batch_shapes(rows, self.max_tokens, 1).replace(**more)

    def open(self) -> PlantedStore:
        """All slides."""
        tiles = self.fewest, self.max_tokens
        made = [
            planted_slide(number, self.seed, tiles, self.width, self.share)
            for number in range(self.slides)
        ]
        bags = BagStore.from_examples([slide.bag for slide in made])
        fields = {field.name: getattr(bags, field.name) for field in dataclasses.fields(bags)}
        return PlantedStore(
            **fields,
            labels=np.array([[slide.lesion.any()] for slide in made], np.float32),
            lesion=np.concatenate([slide.lesion for slide in made]),
        )

    def batches(
        self,
        store: PlantedStore,
        *,
        batch_size: int,
        seed: int,
        share: np.ndarray | None = None,
        epochs: int | None = None,
        holdout: bool = False,
    ) -> BatchIterator:
        """Batches of this host; see `DataSpec.batches`."""
        kept = len(store) - round(self.holdout * len(store))
        records = np.arange(kept, len(store)) if holdout else np.arange(kept)
        if not len(records):
            raise UserError(f"data.holdout {self.holdout} of {len(store)} slides leaves none")
        local = batch_size if share is None else len(share)
        builder = BagRows(store, self.max_tokens, 1, local, seed, store.labels)
        if holdout:
            rows = FixedRows(builder, records)
        else:
            rows = ShuffledRows(builder, records, epochs=epochs)
        return BatchIterator(rows, builder, share, batch_size)
