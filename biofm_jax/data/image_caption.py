"""Images beside their captions: the two views of an image-text model."""

import dataclasses
import logging
from collections.abc import Iterator

import numpy as np

from biofm_jax.data.batch import Batch, batch_shapes
from biofm_jax.data.image_store import open_images
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.notes import ByteTokenizer
from biofm_jax.data.pairs import PairRows, PairStore
from biofm_jax.data.pipeline import RowBuilder
from biofm_jax.data.sequence import expanded
from biofm_jax.data.token_store import open_store
from biofm_jax.data.tokenizers import Tokenizer, Vocabulary
from biofm_jax.errors import UserError

log = logging.getLogger("biofm_jax")

CHUNK = 4096  # captions that are tokenized at a time


@dataclasses.dataclass(frozen=True)
class ImageCaptionData(ImageData):
    """Images, and in `Batch.pair` the caption of each in the same row.

    An image with several captions stands in a row for each. `Batch.contents` tells equal images and
    equal captions, so that no caption of an image counts as one of another.
    """

    path: str = ""
    """A CSV, TSV or JSON-lines file that names images and their captions, a folder with
    `captions.csv` or `captions.jsonl`, or a folder that `biofm data prepare imaging --captions
    True` made. An image with several captions is stored once."""
    pair_tokens: int = 128
    """Tokens of a row of captions, cls and eos among them. A longer one keeps its start, and eos as
    its last token."""
    tokenizer_path: str = ""
    """A folder with the tokenizer files of a published model; empty reads UTF-8 bytes."""
    tokenizer_family: str = ""
    """How texts are written for that tokenizer; empty tells it by the vocabulary."""

    captions = True
    counted = "images and tokens"

    def __post_init__(self):
        super().__post_init__()
        if self.pair_tokens < 3:
            raise UserError(f"data.pair_tokens is {self.pair_tokens}; use 3 or more")

    def pair_tokenizer(self) -> Tokenizer:
        """Of the captions.

        Raises:
            UserError: as `published_tokenizers.load_tokenizer`.
        """
        if not self.tokenizer_path:
            return ByteTokenizer()
        from biofm_jax.data.published_tokenizers import load_tokenizer

        folder = expanded(self.tokenizer_path, "data.tokenizer_path")
        return load_tokenizer(folder, self.tokenizer_family or None)

    def caption(self, text: str) -> np.ndarray:
        """(t,) int32 ids of a caption, at most `pair_tokens`, as in a batch."""
        tokenizer = self.pair_tokenizer()
        ids = tokenizer.encode(text)
        if len(ids) > self.pair_tokens:
            ids = ids[: self.pair_tokens].copy()
            if tokenizer.vocabulary.eos >= 0:
                ids[-1] = tokenizer.vocabulary.eos
        return ids

    @property
    def pair_vocabulary(self) -> Vocabulary:
        """Of the captions."""
        return self.pair_tokenizer().vocabulary

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many images and captions; both views always."""
        views = super().shapes(rows), batch_shapes(rows, self.pair_tokens, 1)
        images, captions = (view.replace(contents=view.examples) for view in views)
        return images.replace(pair=captions)

    def row_builder(self, store: PairStore, batch_size: int, seed: int) -> PairRows:
        """What builds batches of both views."""
        first = super().row_builder(store.first, batch_size, seed)
        second = CaptionRows(store.second, self.pair_tokens, 1, batch_size, seed)
        return PairRows(store, first, second)

    def open(self) -> PairStore:
        """Images and captions of all records; says how many captions lose their end.

        Raises:
            UserError: as `ImageData.prepared`.
        """
        folder = self.prepared()
        images = open_images(folder)

        def chunks() -> Iterator[list[list[str]]]:
            for start in range(0, len(images), CHUNK):
                yield [[row["caption"]] for row in images.records[start : start + CHUNK]]

        captions = open_store(folder, self.pair_tokenizer(), chunks, images.names)
        if cut := int((captions.lengths() > self.pair_tokens).sum()):
            log.info(
                f"{cut:,} of {len(captions):,} captions have over {self.pair_tokens} tokens and "
                "keep their start; --data.pair-tokens takes more"
            )
        hashes = (images.contents[images.image], captions.hashes)
        contents = np.stack([np.unique(each, return_inverse=True)[1] for each in hashes])
        # The side of a record goes by its image.
        captions = dataclasses.replace(captions, hashes=images.hashes)
        return PairStore(images, captions, contents.astype(np.int32))


@dataclasses.dataclass(frozen=True)
class CaptionRows(RowBuilder):
    """One caption a row, from its start."""

    def _shift(self, visits: np.ndarray, excess: np.ndarray, salt: int) -> np.ndarray:
        return np.zeros_like(excess)

    def _view(self, sequence, visits, placement, columns, examples, salt) -> Batch:
        batch = super()._view(sequence, visits, placement, columns, examples, salt)
        lengths = self.store.offsets[sequence + 1] - self.store.offsets[sequence]
        cut = placement[lengths > self.max_tokens, 0]
        if self.store.vocabulary.eos >= 0:
            batch.tokens[cut, -1] = self.store.vocabulary.eos
        return batch
