"""The one batch that every pipeline makes and every model and objective reads."""

import dataclasses

import jax
from jaxtyping import Int32

from biofm_jax.array_types import AnyArray, ArrayLike, Examples, Tokens


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Graph:
    """The atoms and bonds of a batch of packed molecules, whose atom types are `Batch.tokens`.

    Attributes:
        features: (b, t, k) int32 class of each feature of an atom; 0 in padding.
        edges: (b, e, 2) int32 sender and receiver of each edge: columns of the row. A bond is
            two edges, side by side. (0, 0) in padding.
        bonds: (b, e, f) int32 class of each feature of a bond, from 1; 0 in padding. An edge
            whose first feature is 0 does not exist.
    """

    features: Int32[ArrayLike, "b t k"]
    edges: Int32[ArrayLike, "b e 2"]
    bonds: Int32[ArrayLike, "b e f"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """A fixed-shape batch of packed rows.

    A row holds up to `s` examples one behind the other, and padding behind them. Examples
    never see one another: attention, pooling and losses go by `segment_ids`. A batch with one
    example a row is the special case `s = 1`.

    Attributes:
        tokens: (b, t) int32 vocabulary ids.
        segment_ids: (b, t) int32, 0 for padding, i + 1 for the i-th example of the row.
        positions: (b, t) int32, the position within the example (restarts at 0 in each).
        examples: (b, s) int32 record number of each packed example, -1 for an empty slot.
            Random numbers of a row (masks, dropout) are drawn from `examples[:, 0]`, so that
            they do not depend on how rows are spread over microbatches or devices.
        contents: (b, s) int32 of a view of pairs, -1 for an empty slot: examples with the same
            number are equal in this view, as the image of several captions or a caption of several
            images is, and not told from one another. None: all records are taken as unlike.
        targets: token ids (b, t) or (b, k), or labels (b, s, k), as the objective says.
        weights: same shape as `targets`; 0 where there is no target.
        predict: (b, k) int32 token positions at which logits are wanted; None means all.
        pair: the second view for contrastive learning: example i of row r in both views is
            the same molecule, image or patient.
        source: the input of an encoder, where `tokens` are its decoder's: example i of row r
            of the one belongs to example i of row r of the other; their lengths may differ.
        graph: of molecules, whose tokens are atoms.
        coordinates: (b, t, 3) float32 in angstrom, of molecules in space; 0 in padding.
        vectors: (b, t, d) float32, of tokens that are vectors, such as the tiles of a slide.
        images: (b, h, w, c) pictures or (b, z, h, w, c) volumes, one a row, with `tokens` (b, 1):
            uint8, uint16, or float32 from 0 to 1. All 0 in an empty row.
    """

    tokens: Tokens
    segment_ids: Tokens
    positions: Tokens
    examples: Examples
    targets: AnyArray | None = None
    weights: AnyArray | None = None
    predict: AnyArray | None = None
    pair: "Batch | None" = None
    source: "Batch | None" = None
    graph: Graph | None = None
    coordinates: AnyArray | None = None
    images: AnyArray | None = None
    vectors: AnyArray | None = None
    contents: Examples | None = None

    def replace(self, **changes) -> "Batch":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def batch_shapes(rows: int, tokens: int, segments: int, paired: bool = False) -> Batch:
    """The shapes of a pipeline's batch, without its data.

    Args:
        rows: rows of the batch, b.
        tokens: length of a row, t.
        segments: packed examples of a row, s.
        paired: whether there is a second view.
    """
    row = jax.ShapeDtypeStruct((rows, tokens), "int32")
    examples = jax.ShapeDtypeStruct((rows, segments), "int32")
    pair = batch_shapes(rows, tokens, segments) if paired else None
    return Batch(row, row, row, examples, pair=pair)
