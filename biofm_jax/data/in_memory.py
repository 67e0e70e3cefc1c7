"""Sequences in memory to packed batches: bulk embedding, scoring and fine-tuning."""

import dataclasses
from collections.abc import Sequence, Sized

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.conformers import ConformerExample, ConformerRows, ConformerStore
from biofm_jax.data.graphs import GraphExample, GraphRows, GraphStore
from biofm_jax.data.image_store import ImageExample, ImageRows, ImageStore
from biofm_jax.data.pipeline import BatchIterator, FixedRows, RowBuilder, ShuffledRows
from biofm_jax.data.token_store import TokenStore
from biofm_jax.data.tokenizers import Vocabulary

WHOLE = GraphExample | ConformerExample | ImageExample  # what cannot be cut


@dataclasses.dataclass(frozen=True)
class PackedExamples:
    """All examples in batches of one shape, and where each one went.

    Attributes:
        batches: `examples` holds the example's number, `targets` and `weights` (b, s, k) its
            labels where there are some.
        batch: (n,) batch of each example.
        row: (n,) its row.
        segment: (n,) its segment, from 0.
        cropped: how many were longer than a row and lost their tail.
    """

    batches: list[Batch]
    batch: np.ndarray
    row: np.ndarray
    segment: np.ndarray
    cropped: int

    def gather(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Outputs of the examples in the order they were given.

        Args:
            outputs: (b, s, ...) of each batch, such as `pooled`.

        Returns:
            (n, ...).
        """
        return np.stack([np.asarray(o) for o in outputs])[self.batch, self.row, self.segment]


def pack_examples(
    sequences: Sequence[Sized],
    vocabulary: Vocabulary | None,
    *,
    max_tokens: int,
    segments: int,
    batch_size: int,
    labels: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> PackedExamples:
    """Pack examples once, longest first; the last batch is filled with empty rows.

    Args:
        sequences: (t_i,) ids of each example, cls and eos included where wanted, or a
            `GraphExample`, `ConformerExample` or `ImageExample`. A sequence longer than a row keeps
            its first `max_tokens`.
        vocabulary: gives the padding; None for images.
        max_tokens: t, length of a row.
        segments: s, most examples in a row.
        batch_size: b, rows of a batch.
        labels: (n, k) numbers to become `targets`; NaN is a missing label, weight 0.
        weights: (n, k), by default 1 for every label that is there.
    """
    heads = [
        sequence if isinstance(sequence, WHOLE) else sequence[:max_tokens] for sequence in sequences
    ]
    builder = example_rows(
        heads, vocabulary, max_tokens, segments, batch_size, labels=labels, weights=weights
    )
    batches = list(BatchIterator(FixedRows(builder, np.arange(len(heads))), builder))
    examples = np.stack([batch.examples for batch in batches]) if batches else np.zeros((0, 1, 1))
    batch, row, segment = np.nonzero(examples >= 0)
    order = np.argsort(examples[batch, row, segment])
    return PackedExamples(
        batches=batches,
        batch=batch[order],
        row=row[order],
        segment=segment[order],
        cropped=sum(len(sequence) > max_tokens for sequence in sequences),
    )


def example_batches(
    sequences: Sequence[Sized],
    vocabulary: Vocabulary | None,
    *,
    max_tokens: int,
    segments: int,
    batch_size: int,
    seed: int,
    labels: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    epochs: int | None = None,
) -> BatchIterator:
    """A resumable iterator over examples, in a new order each epoch, for fine-tuning.

    Args:
        sequences: (t_i,) ids of each example, cls and eos included where wanted, or a
            `GraphExample`, `ConformerExample` or `ImageExample`. A sequence longer than a row takes
            part as a random window, another one each epoch.
        vocabulary: gives the padding; None for images.
        max_tokens: t, length of a row.
        segments: s, most examples in a row.
        batch_size: b, rows of a batch on this host.
        seed: of the order and the windows.
        labels: (n, k) numbers to become `targets` (b, s, k); NaN is a missing label, weight 0.
        weights: (n, k), by default 1 for every label that is there.
        epochs: passes over the examples; None never ends.
    """
    builder = example_rows(
        sequences,
        vocabulary,
        max_tokens,
        segments,
        batch_size,
        seed=seed,
        labels=labels,
        weights=weights,
    )
    rows = ShuffledRows(builder, np.arange(len(sequences)), epochs=epochs)
    return BatchIterator(rows, builder)


def example_rows(
    sequences: Sequence[Sized],
    vocabulary: Vocabulary | None,
    max_tokens: int,
    segments: int,
    batch_size: int,
    *,
    seed: int = 0,
    labels: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> RowBuilder:
    """What builds rows of some examples; arguments as of `example_batches`."""
    for name, values in (("labels", labels), ("weights", weights)):
        if values is not None and (values.ndim != 2 or len(values) != len(sequences)):
            raise ValueError(f"{name} have shape {values.shape}, not ({len(sequences)}, k)")
    if len(sequences) and isinstance(sequences[0], GraphExample):
        graphs = GraphStore.from_examples(sequences, vocabulary)
        return GraphRows(graphs, max_tokens, segments, batch_size, seed, labels, weights)
    if len(sequences) and isinstance(sequences[0], ConformerExample):
        molecules = ConformerStore.from_examples(sequences, vocabulary)
        return ConformerRows(molecules, max_tokens, segments, batch_size, seed, labels, weights)
    if len(sequences) and isinstance(sequences[0], ImageExample):
        images = ImageStore.from_examples(sequences)
        return ImageRows(images, max_tokens, segments, batch_size, seed, labels, weights)
    store = TokenStore.from_arrays(sequences, vocabulary)
    return RowBuilder(store, max_tokens, segments, batch_size, seed, labels, weights)
