"""New sequences from a causal model: prompts in batches of one shape, one compiled loop."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.adapt.beam import NEVER, Beams, beam_search
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.sampling import Sampling, sample, tokens_seen
from biofm_jax.data.batch import Batch
from biofm_jax.data.image_store import ImageExample
from biofm_jax.errors import UserError
from biofm_jax.models import cache as cached
from biofm_jax.models.caption_writer import CaptionWriterSpec
from biofm_jax.models.dropout import fold_rows_in
from biofm_jax.models.positions import Learned
from biofm_jax.models.spec import ModelSpec

ROWS = 64  # sequences of a batch
MULTIPLE = 16  # prompts are padded to a multiple of so many tokens: few lengths to compile


@dataclasses.dataclass(frozen=True)
class Generated:
    """One new sequence.

    Attributes:
        tokens: (n,) int32 new tokens, the one that stopped it included.
        log_likelihood: nats of the new tokens given the prompt, by the model itself.
        stopped: whether a stop token ended it; else `max_tokens` did.
        score: of a beam search, by which a prompt's sequences are ordered; else None.
    """

    tokens: np.ndarray
    log_likelihood: float
    stopped: bool
    score: float | None = None


def generate(
    encoder: Encoder,
    prompts: Sequence[np.ndarray],
    sampling: Sampling,
    beams: Beams | None = None,
    *,
    sources: Sequence[np.ndarray] | None = None,
    seed: int = 0,
    rows: int = ROWS,
    start: int = 0,
) -> Iterator[list[list[Generated]]]:
    """New sequences for each prompt, batch by batch.

    A sequence depends on its prompt and source, its number and the seed alone: not on the other
    prompts of its batch, nor on `rows`.

    Args:
        encoder: a causal model with a language head, an encoder-decoder, or a captioner (see
            `caption_writer`).
        prompts: ids of the beginning of each sequence, cls included; a prompt that stands here
            twice gives two samples.
        sampling: how tokens are chosen.
        beams: search instead of sampling.
        sources: of an encoder-decoder, the ids that its encoder reads for each prompt, the end
            token included; of a captioner the `ImageExample` of each, taken when its turn comes.
        seed: of the choices, and of the parameters of a random model.
        rows: prompts of a batch; the last one is filled up.
        start: batches that are left out, having been made before.

    Yields:
        For each prompt of the batch its sequences: one sample, or those of the search.

    Raises:
        UserError: a model that sees both sides, or has no language head or too few positions;
            sources that are missing, or that nothing reads.
    """
    _check_sources(encoder, prompts, sources)
    longest = max(len(prompt) for prompt in prompts)
    cached.check_decoder(encoder.spec, longest + sampling.max_tokens)
    _check_masks(encoder, prompts)
    width, source_of = _width(prompts, encoder.spec), _source_maker(encoder, sources)
    params = jax.tree.map(jnp.asarray, encoder.params_for(seed))
    run = _program(encoder.spec, sampling, beams)
    rows = min(rows, len(prompts))
    for first in range(start * rows, len(prompts), rows):
        numbers = np.arange(first, first + rows)
        there = min(rows, len(prompts) - first)
        numbers[there:] = first  # filled up by copies, which end no later
        tokens, lengths = _rows([prompts[i] for i in numbers], width)
        made = run(params, tokens, lengths, source_of(numbers), np.uint32(seed), np.uint32(numbers))
        made = jax.device_get(made)
        yield [_of_row(made, row, beams) for row in range(there)]


def _width(sequences: Sequence[np.ndarray], spec: Any) -> int:
    """Columns of a batch of them: a multiple, where a stack has so many positions."""
    width = -(-max(len(each) for each in sequences) // MULTIPLE) * MULTIPLE
    if isinstance(spec.positions, Learned):
        width = min(width, spec.positions.maximum)
    return width


def _rows(sequences: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, width) int32 ids, zeros behind them, and (rows,) int32 lengths."""
    lengths = np.array([len(each) for each in sequences], np.int32)
    tokens = np.zeros((len(sequences), width), np.int32)
    for row, each in zip(tokens, sequences, strict=True):
        row[: len(each)] = each
    return tokens, lengths


def _source_maker(
    encoder: Encoder, sources: Sequence | None
) -> Callable[[np.ndarray], Batch | None]:
    """Numbers of sources -> their batch, one example a row."""
    if sources is None:
        return lambda numbers: None
    if isinstance(encoder.spec, CaptionWriterSpec):
        return lambda numbers: _images([sources[i] for i in numbers])
    width = _width(sources, encoder.spec.encoder)
    return lambda numbers: _source([sources[i] for i in numbers], width)


def _images(examples: Sequence[ImageExample]) -> Batch:
    """What a captioner writes from, one image a row."""
    one = np.ones((len(examples), 1), np.int32)
    numbers = np.arange(len(examples), dtype=np.int32)[:, None]
    images = np.stack([example.pixels for example in examples])
    return Batch(0 * one, one, 0 * one, numbers, images=images)


def _source(sequences: Sequence[np.ndarray], width: int) -> Batch:
    """What an encoder reads, one example a row."""
    tokens, lengths = _rows(sequences, width)
    columns = np.arange(width, dtype=np.int32)
    return Batch(
        tokens=tokens,
        segment_ids=(columns < lengths[:, None]).astype(np.int32),
        positions=np.broadcast_to(columns, tokens.shape),
        examples=np.arange(len(tokens), dtype=np.int32)[:, None],
    )


def _check_sources(encoder: Encoder, prompts: Sequence, sources: Sequence | None) -> None:
    reads = encoder.spec.reads_source
    if reads and sources is None:
        raise UserError(f"{encoder.name} writes from sources: give it some to read")
    if not reads and sources is not None:
        raise UserError(f"{encoder.name} has no encoder to read sources; leave them out")
    if reads and len(sources) != len(prompts):
        raise UserError(f"there are {len(sources)} sources for {len(prompts)} prompts")
    if not reads or isinstance(encoder.spec, CaptionWriterSpec):
        return
    if not all(len(source) for source in sources):
        raise UserError("a source is empty; give at least one token")
    longest, positions = max(len(source) for source in sources), encoder.spec.encoder.positions
    if isinstance(positions, Learned) and longest > positions.maximum:
        raise UserError(
            f"a source has {longest} tokens, and the encoder of {encoder.name} has "
            f"{positions.maximum} positions; cut it"
        )


def _of_row(made, row: int, beams: Beams | None) -> list[Generated]:
    if beams is None:
        tokens = made.tokens[row, : made.counts[row]]
        return [Generated(tokens, float(made.log_likelihood[row]), bool(made.stopped[row]))]
    return [
        Generated(
            made.tokens[row, beam, : made.counts[row, beam]],
            float(made.log_likelihood[row, beam]),
            bool(made.stopped[row, beam]),
            float(made.scores[row, beam]),
        )
        for beam in range(beams.width)
        if made.scores[row, beam] > NEVER / 2
    ]


def _check_masks(encoder: Encoder, prompts: Sequence[np.ndarray]) -> None:
    rule = encoder.spec.token_dropout
    if rule is not None and any((prompt == rule.mask).any() for prompt in prompts):
        raise UserError(
            f"a prompt holds a mask token, by whose share {encoder.name} (token_dropout) scales "
            "all embeddings; leave it out"
        )


@functools.lru_cache(maxsize=4)
def _program(spec: ModelSpec, sampling: Sampling, beams: Beams | None) -> Callable:
    """(params, prompts (b, t), lengths (b,), source, seed, numbers (b,)) -> `Chosen` or `Found`."""
    model = spec.build()

    @jax.jit
    def run(params: Any, tokens, lengths, source, seed, numbers):
        params = cached.stored(spec, params)
        size = tokens.shape[1] + sampling.max_tokens
        cache, logits = cached.prefill(model, params, tokens, lengths, size, source)
        seen = tokens_seen(tokens, lengths, sampling, spec.vocabulary)

        def advance(cache, tokens, counts):
            cache, logits = cached.extend(model, params, cache, tokens, counts)
            return cache, logits[:, -1]

        if beams is not None:
            return beam_search(
                advance, cached.take_rows, cache, logits[:, -1], seen, sampling, beams
            )
        keys = fold_rows_in(jax.random.key(seed), numbers)
        return sample(advance, cache, logits[:, -1], seen, keys, sampling)

    return run
