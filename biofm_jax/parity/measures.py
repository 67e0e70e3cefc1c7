"""What is compared between our model with imported weights and the reference.

The outputs compared are the logits, or of an encoder without a head its last hidden states.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.models.cache import extend, prefill
from biofm_jax.models.encoder_decoder import replaced
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


def invariances(model, params, rows: Rows) -> dict[str, float]:
    """How much an example's outputs depend on padding, on its batch and on its neighbours."""
    apply = jax.jit(lambda batch: _output(model.apply(params, batch)))
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


def cached(model, params, rows: Rows) -> float:
    """How far the logits of tokens read one by one are from those of all read at once.

    Of a decoder beside an encoder, behind one encoding.
    """
    whole = rows.padded()
    start = int(rows.real.sum(1).min()) - 2  # of every prompt; the rest comes in two single tokens
    together = np.asarray(jax.jit(lambda b: model.apply(params, b).logits)(whole))
    read = jax.jit(lambda t, n, s: prefill(model, params, t, n, rows.tokens.shape[1], s))
    lengths = np.full(len(rows.tokens), start, np.int32)
    cache, logits = read(rows.tokens[:, :start], lengths, whole.source)
    step = jax.jit(lambda cache, t: extend(model, params, cache, t))
    said = [np.asarray(logits)[:, 0]]
    for column in (start, start + 1):
        cache, logits = step(cache, rows.tokens[:, column : column + 1])
        said.append(np.asarray(logits)[:, 0])
    return relative_error(np.stack(said, 1), together[:, start - 1 : start + 2])


def bf16_deviation(spec: Any, params, rows: Rows) -> float:
    """Relative difference of the outputs computed in bfloat16 from those in float32."""
    made = []
    for dtype in ("bfloat16", "float32"):
        model = replaced(spec, dtype=dtype).build()
        run = jax.jit(lambda b, m=model: _output(m.apply(params, b)).astype(jnp.float32))
        made.append(np.asarray(run(rows.padded())))
    return relative_error(made[0][rows.real], made[1][rows.real])


def measures(model, params, reference: Any, family: Family) -> dict[str, float]:
    """All of the above for one small random model; arguments as of `against_reference`."""
    rows = random_rows(model.spec)
    figures = against_reference(model, params, reference, rows, family)
    figures |= invariances(model, params, rows)
    if model.spec.causal:
        figures["cached"] = cached(model, params, rows)
    return figures | {"bf16": bf16_deviation(model.spec, params, rows)}
