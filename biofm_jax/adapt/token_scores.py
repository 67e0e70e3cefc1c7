"""Log-probabilities of chosen tokens at chosen positions, for any number of contexts."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.in_memory import PackedExamples, pack_examples
from biofm_jax.data.progress import told
from biofm_jax.errors import UserError
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.transformer import TransformerSpec

# Tokens of a batch. A CPU is fastest while a batch stays in its cache (ESM-2 8M, 288 residues:
# 39 ms a context in batches of 2,560 tokens, 57 ms in those of 14,080); an accelerator wants more.
TOKENS = {"cpu": 1 << 12}
TOKENS_ELSEWHERE = 1 << 15
BATCHES = 16  # packed at a time: contexts are made as they are needed
LOGITS = 1 << 27  # most logits of a batch: 512 MiB


@dataclasses.dataclass(frozen=True)
class Query:
    """A context and what is asked of it.

    Attributes:
        tokens: (t,) int32 ids that the model reads.
        positions: (m,) where its logits are read.
        targets: (m, c) int32 ids whose log-probabilities are wanted there.
    """

    tokens: np.ndarray
    positions: np.ndarray
    targets: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What some queries are at most, which fixes the one shape of all their batches.

    Attributes:
        count: number of queries.
        shortest: tokens of the shortest context.
        longest: tokens of the longest.
        positions: m, the most positions of a query.
        candidates: c, the most targets of a position.
    """

    count: int
    shortest: int
    longest: int
    positions: int
    candidates: int

    @classmethod
    def of(cls, queries: Sequence[Query]) -> "Sizes":
        """The sizes of queries that are all at hand."""
        lengths = [len(query.tokens) for query in queries]
        return cls(
            count=len(queries),
            shortest=min(lengths),
            longest=max(lengths),
            positions=max(len(query.positions) for query in queries),
            candidates=max(query.targets.shape[1] for query in queries),
        )

    def at_least(self, other: "Sizes") -> "Sizes":
        """Sizes of queries such as these or those: the shape that both can share."""
        return Sizes(
            count=max(self.count, other.count),
            shortest=min(self.shortest, other.shortest),
            longest=max(self.longest, other.longest),
            positions=max(self.positions, other.positions),
            candidates=max(self.candidates, other.candidates),
        )


def token_scores(
    encoder: Encoder,
    params: Any,
    queries: Iterable[Query],
    sizes: Sizes,
    like: Sizes | None = None,
) -> Iterator[np.ndarray]:
    """The log-probabilities, in nats, of each query's targets, in order.

    Contexts are packed into rows of one length and compiled once. None may be longer than
    `encoder.data.max_tokens`. Progress is shown.

    Args:
        encoder: a model with a language head.
        params: its parameters.
        queries: may be made one by one.
        sizes: at least as large as each of them.
        like: sizes of earlier queries, whose compiled batches serve again if they are larger.

    Yields:
        (m, c) float32.
    """
    widest = sizes if like is None else sizes.at_least(like)
    shape = _shape(encoder, widest)
    run = _scorer(encoder.spec)
    queries = iter(queries)
    with told(sizes.count, f"{encoder.name}: contexts read") as advance:
        while chunk := list(itertools.islice(queries, shape.rows * shape.examples * shape.batches)):
            packed = pack_examples(
                [query.tokens for query in chunk],
                encoder.data.tokenizer().vocabulary,
                max_tokens=shape.tokens,
                segments=shape.examples,
                batch_size=shape.rows,
            )
            places = _places(packed, chunk)
            predict = np.zeros((len(packed.batches), shape.rows, shape.read), np.int32)
            targets = np.zeros((*predict.shape, widest.candidates), np.int32)
            for query, (batch, row, start, slot) in zip(chunk, places, strict=True):
                here = (batch, row, slice(slot, slot + len(query.positions)))
                predict[here] = start + query.positions
                targets[here][:, : query.targets.shape[1]] = query.targets
            scores = []
            for batch, p, t in zip(packed.batches, predict, targets, strict=True):
                scores.append(jax.device_get(run(params, batch.replace(predict=p), t)))
                advance(int((batch.examples >= 0).sum()))
            for query, (batch, row, _, slot) in zip(chunk, places, strict=True):
                m, c = query.targets.shape
                yield scores[batch][row, slot : slot + m, :c]


@dataclasses.dataclass(frozen=True)
class _Shape:
    """Of every batch: rows, their tokens, contexts in a row, positions read; batches at a time."""

    rows: int
    tokens: int
    examples: int
    read: int
    batches: int


def _shape(encoder: Encoder, sizes: Sizes) -> _Shape:
    platform = jax.default_backend()
    if sizes.shortest == sizes.longest:
        # All of one length, as variants of a wild type are: a power of two would be padding.
        multiple = 128 if platform == "tpu" else 64
        tokens = min(encoder.data.max_tokens, -(-sizes.longest // multiple) * multiple)
    else:
        tokens = encoder.row_tokens([np.empty(sizes.longest)])
    examples = max(1, min(encoder.data.segments, tokens // sizes.shortest))
    read = max(1, min(tokens, examples * sizes.positions))
    needed = 1 << (-(-sizes.count // examples) - 1).bit_length()
    fitting = max(1, LOGITS // (read * encoder.spec.vocabulary))
    most = max(1, TOKENS.get(platform, TOKENS_ELSEWHERE) // tokens)
    rows = min(most, needed, 1 << fitting.bit_length() - 1)
    batches = max(1, min(BATCHES, LOGITS // (rows * read * sizes.candidates)))
    return _Shape(rows, tokens, examples, read, batches)


def language_model(encoder: Encoder, seed: int, *, causal: bool) -> tuple[Any, int]:
    """The parameters of a model that can say how likely tokens are, and its mask token.

    Args:
        encoder: the model.
        seed: of the parameters of one that has none.
        causal: whether it must look backwards only.

    Raises:
        UserError: it has no language head, looks the other way, or lacks a mask token that it
            would need.
    """
    params = encoder.params_for(seed)
    if isinstance(encoder.spec, EncoderDecoderSpec):
        raise UserError(
            f"{encoder.name} is an encoder-decoder, whose likelihoods are of a source's text; "
            "zero-shot scores need a model of one stack"
        )
    if not isinstance(encoder.spec.head, LanguageHead) or "head" not in params:
        raise UserError(
            f"{encoder.name} has no language head, which zero-shot scores read; take a model "
            "that MaskedLM or NextToken trained"
        )
    if encoder.spec.causal and not causal:
        raise UserError(f"{encoder.name} is causal: of the zero-shot scores it has next_token")
    if causal and not encoder.spec.causal:
        raise UserError(f"{encoder.name} is not causal, as next_token needs it")
    mask = encoder.data.tokenizer().vocabulary.mask
    if not causal and mask < 0:
        raise UserError(f"the vocabulary of {encoder.name} has no mask token")
    return jax.tree.map(jnp.asarray, params), mask


def whole_tokens(
    encoder: Encoder, texts: Sequence[str], ids: Sequence[str] | None
) -> list[np.ndarray]:
    """Ids of texts none of which is cut: what is cut off would go unscored.

    Args:
        encoder: cleans and tokenizes.
        texts: n sequences.
        ids: their names for messages; None numbers them.

    Raises:
        UserError: a text that the modality cannot read, or longer than the model's rows.
    """
    sequences = encoder.tokenize(texts)
    for number, tokens in enumerate(sequences):
        if len(tokens) > encoder.data.max_tokens:
            raise UserError(
                f"{named(number, ids)} has {len(tokens)} tokens, and the rows of {encoder.name} "
                f"hold {encoder.data.max_tokens}; cut the sequences to a window around what is "
                "to be scored"
            )
    return sequences


def named(number: int, ids: Sequence[str] | None) -> str:
    """What a message calls an item: its id, or its place."""
    return f"text {number + 1}" if ids is None else str(ids[number])


@functools.lru_cache(maxsize=4)
def _scorer(spec: TransformerSpec) -> Callable:
    """(params, batch, (b, k, c) targets) -> (b, k, c) log-probabilities at `batch.predict`."""
    model = spec.build()

    @jax.jit
    def run(params, batch, targets):
        logits = model.apply(params, batch).logits.astype(jnp.float32)
        return jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), targets, axis=-1)

    return run


def _places(packed: PackedExamples, queries: Sequence[Query]) -> list[tuple[int, int, int, int]]:
    """Batch, row, first column, and first slot of `predict`, of each query."""
    segments = np.stack([batch.segment_ids for batch in packed.batches])
    first = np.diff(segments, axis=-1, prepend=0) != 0
    columns = np.zeros((*segments.shape[:2], segments.max() + 1), np.int64)
    batch, row, column = np.nonzero(first)
    columns[batch, row, segments[batch, row, column]] = column
    starts = columns[packed.batch, packed.row, packed.segment + 1]
    used = np.zeros(segments.shape[:2], np.int64)
    places = []
    for query, batch, row, start in zip(queries, packed.batch, packed.row, starts, strict=True):
        places.append((int(batch), int(row), int(start), int(used[batch, row])))
        used[batch, row] += len(query.positions)
    return places
