"""Hidden states after chosen blocks of a frozen model, pooled on the device."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from biofm_jax.adapt.encoder import Stack
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.heads import pool
from biofm_jax.models.transformer import TransformerSpec

Pooling = Literal["mean", "cls", "tokens"]


def layer_states(
    spec: Stack,
    params: Any,
    layers: Sequence[int] | None,
    pooling: Pooling,
    dtype: str = "float32",
) -> tuple[Callable[[Any, Batch], tuple[jax.Array, ...]], Any]:
    """A compiled function of what a model says at some layers, and the parameters it takes.

    The blocks between two of the layers run as a model of their own: each layer is pooled as it
    is reached, and the states of all blocks are never held at once. What lies behind the last
    layer, and the head, is left out of both.

    Args:
        spec: the model.
        params: its parameters.
        layers: hidden states after this many blocks, before any final norm; 0 is the embeddings.
            None: the model's output alone.
        pooling: "mean" over an example's tokens without `spec.special`, its first token ("cls"),
            or no pooling ("tokens").
        dtype: of the result.

    Returns:
        A function `(parts, batch) -> states`, one array for each layer in the order given:
        (b, s, d), or (b, t, d) with "tokens". The second is `parts`.

    Raises:
        UserError: the model has no such layer, or one is named twice.
    """
    params = {name: part for name, part in params.items() if name != "head"}
    spec = dataclasses.replace(spec, head=None)
    if layers is None:
        model = spec.build()

        def last(parts, batch):
            return (_pooled(model.apply(parts, batch).hidden, batch, spec, pooling, dtype),)

        return jax.jit(last), params
    for layer in layers:
        if not 0 <= layer <= spec.layers:
            raise UserError(
                f"layer {layer} is not in 0 (the embeddings) to {spec.layers} (the last block)"
            )
    if not layers or len(set(layers)) < len(layers):
        raise UserError(f"layers {' '.join(map(str, layers))}: name at least one, and each once")
    if not isinstance(spec, TransformerSpec):
        return _of_whole_stack(spec, params, layers, pooling, dtype)
    stops = sorted({0, *layers})
    if len(stops) == 1:
        stops.append(1)  # no stack is empty
    body = {name: part for name, part in params.items() if name != "final_norm"}
    parts, models = [], []
    for start, stop in itertools.pairwise(stops):
        cut = jax.tree.map(lambda stacked, a=start, b=stop: stacked[a:b], params["blocks"])
        parts.append({**body, "blocks": cut})
        models.append(dataclasses.replace(spec, layers=stop - start, final_norm=False).build())

    def chosen(parts, batch):
        states, x = {}, None
        for start, stop, model, part in zip(stops, stops[1:], models, parts):
            collect = ("layers",) if start == 0 and 0 in layers else ()
            outputs = model.apply(part, batch, embedded=x, collect=collect)
            if collect:
                states[0] = outputs.layers[0]
            states[stop] = x = outputs.hidden
        return tuple(_pooled(states[layer], batch, spec, pooling, dtype) for layer in layers)

    return jax.jit(chosen), parts


def _of_whole_stack(spec, params, layers, pooling, dtype):
    """The same of a stack whose blocks do more than read the one before: all states are held."""
    blocks = max(*layers, 1)
    cut = jax.tree.map(lambda stacked: stacked[:blocks], params["blocks"])
    model = dataclasses.replace(spec, layers=blocks).build()

    def chosen(parts, batch):
        states = model.apply(parts, batch, collect=("layers",)).layers
        return tuple(_pooled(states[layer], batch, spec, pooling, dtype) for layer in layers)

    return jax.jit(chosen), {**params, "blocks": cut}


def _pooled(x: jax.Array, batch: Batch, spec: Stack, pooling: Pooling, dtype: str):
    if pooling != "tokens":
        x = pool(x, spec.rows(batch), {"mean": "mean", "cls": "first"}[pooling], spec.special)
    return jnp.asarray(x, dtype)
