"""What is compared between our model with imported weights and the reference.

The outputs compared are the logits, or of an encoder without a head its last hidden states.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.models.cache import extend, prefill
from biofm_jax.parity.expected import expected
from biofm_jax.parity.references import PAD
from biofm_jax.parity.rows import Rows, random_rows
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


def _output(out) -> Any:
    return out.hidden if out.logits is None else out.logits


def against_reference(model, params, reference: Any, rows: Rows, family: Family) -> dict:
    """Relative errors of the outputs, of the worst hidden state and of the worst gradient.

    Args:
        model: ours.
        params: imported from the reference.
        reference: a torch module.
        rows: what both read.
        family: of the model.
    """
    theirs, batch = expected(reference, rows), rows.padded()

    def loss(params):
        out = model.apply(params, batch, collect=("layers",))
        return jnp.sum(_output(out) * theirs.weight), out

    gradients, out = jax.jit(jax.grad(loss, has_aux=True))(params)
    stacks = [(out, theirs.hidden, rows.real)]
    if rows.source is not None:
        stacks.append((out.source, theirs.of_source, rows.source != PAD))
    hidden = [
        relative_error(ours[real], reference_state[real])
        for stack, states, real in stacks
        for ours, reference_state in zip(
            [*np.asarray(stack.layers)[:-1], np.asarray(stack.hidden)], states, strict=True
        )
    ]
    found = published_tensors(gradients, family, model.spec)
    return {
        "logits": relative_error(np.asarray(_output(out))[rows.real], theirs.output[rows.real]),
        "hidden": worst(hidden),
        "gradients": worst(gradient_error(g, theirs.gradients[name]) for name, g in found),
    }


def gradient_error(ours, theirs) -> float:
    """As `relative_error`; one that is zero in theory (biases of keys) is 0 if ours is small, or 1.

    A NaN is not small.
    """
    if np.linalg.norm(theirs) > 1e-3:
        return relative_error(ours, theirs)
    return float(not np.linalg.norm(ours) <= 1e-3)


def invariances(apply: Callable, rows: Rows) -> dict[str, float]:
    """How much an example's outputs depend on padding, on its batch and on its neighbours.

    Args:
        apply: `batch -> outputs` (b, t, v or d), compiled once for each shape.
        rows: what is read.
    """
    together = np.asarray(apply(rows.padded()))
    packed = np.asarray(apply(rows.packed()))[0]
    lengths = rows.real.sum(1)
    errors = {"padding": 0.0, "batch": 0.0, "packed": 0.0}
    start = 0
    for number, length in enumerate(lengths):
        single = np.asarray(apply(rows.padded(slice(number, number + 1))))[0, :length]
        others = {
            "batch": together[number, :length],
            "packed": packed[start : start + length],
        }
        if length == lengths.min():  # the most padding; each length is compiled anew
            others["padding"] = np.asarray(apply(rows.alone(number)))[0]
        for name, other in others.items():
            errors[name] = worst((errors[name], relative_error(other, single)))
        start += length
    return errors


def cached(model, params, rows: Rows, together: np.ndarray) -> float:
    """How far the logits of tokens read one by one are from `together`, those of all read at once.

    Of a decoder beside an encoder, behind one encoding.
    """
    start = int(rows.real.sum(1).min()) - 2  # of every prompt; the rest comes in two single tokens
    # Parameters are arguments: as constants of the program they would be folded.
    read = jax.jit(lambda p, t, n, s: prefill(model, p, t, n, rows.tokens.shape[1], s))
    lengths = np.full(len(rows.tokens), start, np.int32)
    cache, logits = read(params, rows.tokens[:, :start], lengths, rows.padded().source)
    step = jax.jit(lambda p, cache, t: extend(model, p, cache, t))
    said = [np.asarray(logits)[:, 0]]
    for column in (start, start + 1):
        cache, logits = step(params, cache, rows.tokens[:, column : column + 1])
        said.append(np.asarray(logits)[:, 0])
    return relative_error(np.stack(said, 1), together[:, start - 1 : start + 2])


def bf16_deviation(spec: Any, params, rows: Rows, together: np.ndarray) -> float:
    """Relative difference of the outputs computed in bfloat16 from `together`, in float32."""
    model = spec.replaced(dtype="bfloat16").build()
    run = jax.jit(lambda p, b: _output(model.apply(p, b)).astype(jnp.float32))
    made = np.asarray(run(params, rows.padded()))
    return relative_error(made[rows.real], together[rows.real])


def measures(model, params, reference: Any, family: Family) -> dict[str, float]:
    """All of the above for one small random model; arguments as of `against_reference`."""
    rows = random_rows(model.spec)
    apply = functools.partial(jax.jit(lambda p, b: _output(model.apply(p, b))), params)
    together = np.asarray(apply(rows.padded()))
    figures = against_reference(model, params, reference, rows, family)
    figures |= invariances(apply, rows)
    if model.spec.causal:
        figures["cached"] = cached(model, params, rows, together)
    return figures | {"bf16": bf16_deviation(model.spec, params, rows, together)}
