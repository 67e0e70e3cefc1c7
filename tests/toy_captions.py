"""Pictures with captions in memory, and towers small enough for them."""

import dataclasses

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.notes import ByteTokenizer
from biofm_jax.models.captioner import CaptionerSpec
from biofm_jax.models.dual_encoder import DualEncoderSpec, SharedSpace
from biofm_jax.models.heads import LanguageHead, ProjectionHead
from biofm_jax.models.positions import NoPositions
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.vision import VisionSpec

BYTES = ByteTokenizer()
VOCABULARY = BYTES.vocabulary
TEXTS = ("a dark lung", "bright", "no mass is seen", "ct", "an enlarged heart", "clear")
TOKENS = 24

IMAGE = VisionSpec(
    layers=1, width=16, heads=2, image=(8, 8), patch=(4, 4), channels=1, mean=(0.5,),
    deviation=(0.5,), registers=1, head=ProjectionHead(8, layers=1), init_std=0.3,
)  # fmt: skip
TEXT = TransformerSpec(
    vocabulary=VOCABULARY.size,
    special=VOCABULARY.special,
    layers=1,
    width=24,
    heads=2,
    head=ProjectionHead(8, layers=1),
    init_std=0.3,
)
TOWERS = DualEncoderSpec(first=IMAGE, second=TEXT, head=SharedSpace(0.1))
CAPTIONER = CaptionerSpec(
    first=TOWERS.first,
    second=dataclasses.replace(TOWERS.second, causal=True, pooling="last"),
    head=TOWERS.head,
    decoder=TransformerSpec(
        vocabulary=VOCABULARY.size,
        layers=1,
        width=24,
        heads=2,
        causal=True,
        positions=NoPositions(),
        head=LanguageHead(transform=False, bias=False),
        init_std=0.3,
    ),
    queries=3,
)


def captioned(texts=TEXTS, rows: int = 0, seed: int = 0) -> Batch:
    """A batch of one random picture (8, 8, 1) and one text a row; the rows behind are empty."""
    count, rows = len(texts), max(rows, len(texts))
    rng = np.random.default_rng(seed)
    images = np.zeros((rows, 8, 8, 1), np.uint8)
    images[:count] = rng.integers(0, 256, (count, 8, 8, 1))
    examples = np.full((rows, 1), -1, np.int32)
    examples[:count, 0] = np.arange(count)
    tokens = np.full((rows, TOKENS), VOCABULARY.pad, np.int32)
    segment_ids, positions = np.zeros((2, rows, TOKENS), np.int32)
    for row, text in enumerate(texts):
        ids = BYTES.encode(text)[:TOKENS]
        tokens[row, : len(ids)] = ids
        segment_ids[row, : len(ids)], positions[row, : len(ids)] = 1, np.arange(len(ids))
    one = (examples >= 0).astype(np.int32)
    pair = Batch(tokens, segment_ids, positions, examples)
    return Batch(0 * one, one, 0 * one, examples, images=images, pair=pair)


def replaced(spec, **changes):
    """Short for `dataclasses.replace`."""
    return dataclasses.replace(spec, **changes)
