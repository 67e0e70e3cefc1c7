"""What is compared between our model with imported weights and the reference."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.models.cache import extend, prefill
from biofm_jax.parity.references import PAD, Expected
from biofm_jax.zoo.exporting import published_tensors
from biofm_jax.zoo.family import Family

# Bars of float32; a miss is a bug to find, never a reason to move them.
OUTPUTS, GRADIENTS = 1e-5, 1e-4


def relative_error(ours, theirs) -> float:
    """|ours - theirs| / |theirs| in the Euclidean norm."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def worst(errors: Iterable[float]) -> float:
    """The largest error; NaN where one is, which `max` would pass over."""
    return float(np.max([*errors]))


def padded_batch(tokens: np.ndarray) -> Batch:
    """One example a row, padding behind it."""
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    examples = np.arange(len(tokens), dtype=np.int32)[:, None]
    return Batch(tokens, (tokens != PAD).astype(np.int32), positions, examples)


def packed_batch(tokens: np.ndarray) -> Batch:
    """All examples in one row, one behind the other, padding behind the last."""
    rows = [row[row != PAD] for row in tokens]
    lengths = [len(row) for row in rows]
    room = [np.full(5, PAD, np.int32)]
    ids = np.repeat(np.arange(1, len(rows) + 1), lengths)
    positions = np.concatenate([np.arange(n) for n in lengths])
    empty = np.zeros(5, np.int64)
    return Batch(
        np.concatenate(rows + room)[None],
        np.concatenate([ids, empty])[None].astype(np.int32),
        np.concatenate([positions, empty])[None].astype(np.int32),
        np.arange(len(rows), dtype=np.int32)[None],
    )


def against_reference(model, params, expected: Expected, family: Family) -> dict[str, float]:
    """Relative errors of logits, of the worst hidden state and of the worst gradient."""
    batch, real = padded_batch(expected.tokens), expected.tokens != PAD

    def loss(params):
        out = model.apply(params, batch, collect=("layers",))
        return jnp.sum(out.logits * expected.weight), out

    gradients, ours = jax.jit(jax.grad(loss, has_aux=True))(params)
    states = [*np.asarray(ours.layers)[:-1], np.asarray(ours.hidden)]
    hidden = [
        relative_error(mine[real], theirs[real])
        for mine, theirs in zip(states, expected.hidden, strict=True)
    ]
    mine = published_tensors(gradients, family, model.spec)
    return {
        "logits": relative_error(np.asarray(ours.logits)[real], expected.logits[real]),
        "hidden": worst(hidden),
        "gradients": worst(gradient_error(g, expected.gradients[name]) for name, g in mine),
    }


def gradient_error(ours, theirs) -> float:
    """As `relative_error`; one that is zero in theory (biases of keys) is 0 if ours is small, or 1.

    A NaN is not small.
    """
    if np.linalg.norm(theirs) > 1e-3:
        return relative_error(ours, theirs)
    return float(not np.linalg.norm(ours) <= 1e-3)


def invariances(model, params, tokens: np.ndarray) -> dict[str, float]:
    """How much an example's logits depend on padding, on its batch and on its neighbours."""
    apply = jax.jit(lambda batch: model.apply(params, batch).logits)
    together = np.asarray(apply(padded_batch(tokens)))
    packed = np.asarray(apply(packed_batch(tokens)))[0]
    lengths = (tokens != PAD).sum(1)
    errors = {"padding": 0.0, "batch": 0.0, "packed": 0.0}
    start = 0
    for number, (row, length) in enumerate(zip(tokens, lengths, strict=True)):
        single = np.asarray(apply(padded_batch(row[None])))[0, :length]
        others = {
            "batch": together[number, :length],
            "packed": packed[start : start + length],
        }
        if length == lengths.min():  # the most padding; each length is compiled anew
            others["padding"] = np.asarray(apply(padded_batch(row[None, :length])))[0]
        for name, other in others.items():
            errors[name] = worst((errors[name], relative_error(other, single)))
        start += length
    return errors


def cached(model, params, tokens: np.ndarray) -> float:
    """How far the logits of a causal model read token by token are from those read at once."""
    lengths = (tokens != PAD).sum(1).astype(np.int32)
    start = int(lengths.min()) - 2  # of every prompt; the rest comes in two steps of one token
    together = np.asarray(model.apply(params, padded_batch(tokens)).logits)
    cache, logits = jax.jit(lambda t, n: prefill(model, params, t, n, tokens.shape[1]))(
        tokens[:, :start], np.full(len(tokens), start, np.int32)
    )
    step = jax.jit(lambda cache, t: extend(model, params, cache, t))
    said = [np.asarray(logits)[:, 0]]
    for column in (start, start + 1):
        cache, logits = step(cache, tokens[:, column : column + 1])
        said.append(np.asarray(logits)[:, 0])
    return relative_error(np.stack(said, 1), together[:, start - 1 : start + 2])


def bf16_deviation(spec: Any, params, tokens: np.ndarray) -> float:
    """Relative difference of the logits computed in bfloat16 from those in float32."""
    batch, real = padded_batch(tokens), tokens != PAD
    logits = []
    for dtype in ("bfloat16", "float32"):
        model = dataclasses.replace(spec, dtype=dtype).build()
        logits.append(np.asarray(jax.jit(lambda b, m=model: m.apply(params, b).logits)(batch)))
    return relative_error(logits[0][real], logits[1][real])
