"""Small specs and batches that the tests of models share."""

import dataclasses
import functools

import jax
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.models.embedding import TokenDropout
from biofm_jax.models.positions import Alibi, Learned, NoPositions, Relative, Rotary
from biofm_jax.models.transformer import TransformerSpec

MASK = 3
BASE = TransformerSpec(
    vocabulary=16,
    layers=3,
    width=16,
    heads=4,
    token_dropout=TokenDropout(mask=MASK, ratio=0.12),
    special=(0, 1, 2),
    init_std=0.3,
)

POSITIONS = {
    "learned": Learned(maximum=64, offset=2),
    "rotary": Rotary(),
    "rotary_interleaved_half": Rotary(fraction=0.5, interleaved=True),
    "alibi": Alibi(),
    "relative": Relative(buckets=8, distance=16),
    "none": NoPositions(),
}


def variant(**changes) -> TransformerSpec:
    return dataclasses.replace(BASE, **changes)


# Compiling is most of what these tests do; unoptimised code compiles twice as fast.
FAST_COMPILE = {"xla_backend_optimization_level": 0}


def jit(function):
    return jax.jit(function, compiler_options=FAST_COMPILE)


@functools.cache
def jitted_apply(spec, train=False, collect=()):
    """`apply` of a spec, compiled once per shape for all tests of a file."""
    model = spec.build()
    return jit(
        lambda params, batch, rngs: model.apply(
            params, batch, rngs=rngs, train=train, collect=collect
        )
    )


def sequences(lengths=(9, 14, 5, 20), seed=0) -> list[np.ndarray]:
    """Token ids with some masks, from the start token 0 to the end token 2."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        tokens = rng.integers(4, 16, length).astype(np.int32)
        tokens[1:-1][rng.random(length - 2) < 0.25] = MASK
        tokens[0], tokens[-1] = 0, 2
        made.append(tokens)
    return made


def pack(rows: list[list[np.ndarray]], length: int, slots: int) -> Batch:
    """Rows of examples one behind the other; example numbers count through the batch."""
    shape = (len(rows), length)
    tokens, segments = np.full(shape, 1, np.int32), np.zeros(shape, np.int32)
    positions, examples = np.zeros(shape, np.int32), np.full((len(rows), slots), -1, np.int32)
    number = 0
    for r, row in enumerate(rows):
        start = 0
        for i, example in enumerate(row):
            part = slice(start, start + len(example))
            tokens[r, part], segments[r, part] = example, i + 1
            positions[r, part] = np.arange(len(example))
            examples[r, i], number, start = number, number + 1, part.stop
    return Batch(tokens=tokens, segment_ids=segments, positions=positions, examples=examples)
