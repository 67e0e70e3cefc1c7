"""The stack as pure functions: initialise, name the axes, apply."""

import dataclasses
import functools
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.array_types import Hidden, PyTree
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models import heads
from biofm_jax.models.api import Outputs, constrain, gather, gather_late, partitioned, used
from biofm_jax.models.attention_cached import Cache
from biofm_jax.models.attention_fused import FUSED_ATTENTION
from biofm_jax.models.block import Block
from biofm_jax.models.cross_attention import Source
from biofm_jax.models.dropout import fold, row_keys
from biofm_jax.models.layers import MADE, Context, Norm, normal
from biofm_jax.models.linear_attention import redrawn
from biofm_jax.models.normalize import STATISTICS
from biofm_jax.models.positions import Learned, Relative, Rotary, distance_bias, rotary_tables

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec

COLLECTABLE = {"attentions", "layers", "keys_values"}
EVERYTHING = 1 << 30  # a window wider than any row


def init_stack(spec: "TransformerSpec", rng: jax.Array, source_width: int | None = None) -> PyTree:
    """Float32 parameters as a plain nested dict; those of the blocks stacked layer by layer.

    Args:
        spec: the model's spec.
        rng: a PRNG key.
        source_width: of the encoder whose output the blocks read; None: they have no source.
    """
    return nn.unbox(_boxed(spec, source_width, rng))


@functools.lru_cache
def stack_axes(spec: "TransformerSpec", with_source: bool = False) -> PyTree:
    """The logical names of every parameter's axes."""
    width = spec.width if with_source else None  # which one, no name tells
    boxed = jax.eval_shape(functools.partial(_boxed, spec, width), jax.random.key(0))
    names = jax.tree.map(lambda box: box.names, boxed, is_leaf=_is_box)
    names["blocks"] = jax.tree.map(
        lambda axes: ("layers", *axes), names["blocks"], is_leaf=lambda x: isinstance(x, tuple)
    )
    return names


def _is_box(x) -> bool:
    return isinstance(x, nn.meta.AxisMetadata)


def _boxed(spec: "TransformerSpec", source_width: int | None, rng: jax.Array) -> PyTree:
    """Parameters with the names of their axes, made on a blank row."""
    batch = spec.blank()
    hidden = jnp.zeros((*batch.tokens.shape, spec.width))
    keys = dict(zip(("embed", "blocks", "head", "relative"), jax.random.split(rng, 4)))
    keys["pool"] = jax.random.fold_in(rng, 4)
    params = {}
    with partitioned(None):
        params["embed"] = spec.embedding().init(keys["embed"], batch, None)["params"]
        if isinstance(spec.positions, Relative):
            shape = (spec.positions.buckets, spec.heads)
            make = nn.with_logical_partitioning(normal(spec.init_std), (None, "heads"))
            params["relative"] = make(keys["relative"], shape, jnp.float32)
        source = None
        if source_width is not None:
            source = Source(batch.segment_ids, jnp.zeros((*batch.tokens.shape, source_width)))
        context = _context(spec, nn.unbox(params), batch, source=source)
        # Shapes alone matter here, and no kernel wants a row of two tokens.
        block = Block(dataclasses.replace(spec, backend="reference"))
        context = _of_layer(spec, context, 0)
        params["blocks"] = jax.vmap(lambda key: block.init(key, hidden, context, None)["params"])(
            jax.random.split(keys["blocks"], spec.layers)
        )
        if spec.final_norm:
            params["final_norm"] = _final_norm(spec).init(rng, hidden)["params"]
        if (pool := spec.pool_module()) is not None:
            params["pool"] = pool.init(keys["pool"], hidden, batch)["params"]
        if spec.head is not None:
            table = nn.unbox(params)["embed"].get("tokens")
            params["head"] = heads.init_head(spec, keys["head"], table, hidden)
    return params


def _final_norm(spec: "TransformerSpec") -> Norm:
    return Norm(spec.norm, spec.norm_epsilon, spec.biases.final_norm)


def _context(
    spec: "TransformerSpec",
    params: PyTree,
    batch: Batch,
    past: Cache | None = None,
    source: Source | None = None,
) -> Context:
    """What the layers read; of `LocalLayers` the two kinds of angles lie one behind the other."""
    tables = None
    if isinstance(spec.positions, Rotary):
        tables = rotary_tables(batch.positions, spec.positions, spec.head_size)
        if spec.local is not None:
            rotary = dataclasses.replace(spec.positions, base=spec.local.base)
            local = rotary_tables(batch.positions, rotary, spec.head_size)
            tables = jax.tree.map(lambda *both: jnp.stack(both), tables, local)
    bias = distance_bias(
        spec.positions,
        used(params.get("relative")),
        heads=spec.heads,
        length=batch.tokens.shape[1] + (0 if past is None else past.size),
        causal=spec.causal,
    )
    return Context(
        segment_ids=batch.segment_ids,
        tables=tables,
        distance_bias=bias,
        window=spec.window,
        past=past,
        source=source,
        examples=batch.examples.shape[1],
    )


def _of_layer(spec: "TransformerSpec", context: Context, layer: jax.Array | int) -> Context:
    """What one layer reads."""
    if spec.local is None:
        alike = spec.first_norm and not spec.attention_by_depth
        return context if alike else dataclasses.replace(context, layer=layer)
    is_local = jnp.asarray(layer) % spec.local.every != 0
    return dataclasses.replace(
        context,
        layer=layer,
        tables=jax.tree.map(lambda both: both[is_local.astype(jnp.int32)], context.tables),
        window=jnp.where(is_local, spec.local.window, EVERYTHING),
    )


def apply_stack(
    spec: "TransformerSpec",
    params: PyTree,
    batch: Batch,
    *,
    rngs: jax.Array | None = None,
    train: bool = False,
    collect: tuple[str, ...] = (),
    embedded: Hidden | None = None,
    past: Cache | None = None,
    source: Source | None = None,
) -> Outputs:
    """Run the model.

    Args:
        spec: the model's spec.
        params: as `init_stack` makes them.
        batch: tokens, segments and positions are read; `predict` by a language head.
        rngs: one PRNG key, needed for training with dropout.
        train: dropout is on.
        collect: any of "attentions", "layers" and "keys_values".
        embedded: (b, t, d) in the place of the tokens' embeddings, to differentiate by.
        past: of a causal model, what it kept of the tokens before these; see `models/cache.py`.
        source: of a decoder with cross attention, what it reads of its encoder.

    Raises:
        UserError: rows longer than learned positions, training with dropout but no key, an
            unknown name to collect, or a batch with a source for a model without an encoder.
    """
    keys = _check_call(spec, batch, rngs, train, collect)
    axes, dtype = stack_axes(spec, source is not None), spec.compute_dtype
    outer = {name: part for name, part in params.items() if name != "blocks"}
    outer = gather(outer, {name: axes[name] for name in outer}, dtype)
    context = _context(spec, params, batch, past, source)
    if embedded is None:
        x = spec.embedding().apply({"params": outer["embed"]}, batch, fold(keys, 0))
    else:
        x = jnp.asarray(embedded, dtype)
    x = constrain(x, "batch", "tokens", "width")
    stacked = params["blocks"], redrawn(spec, rngs, train)
    x, (layers, attentions, *made) = _run_blocks(
        spec, stacked, axes["blocks"], x, context, keys, collect
    )
    if spec.final_norm:
        x = _final_norm(spec).apply({"params": outer["final_norm"]}, x)
    pool_weights = None
    if (pool := spec.pool_module()) is not None:
        pooled, pool_weights = pool.apply({"params": outer["pool"]}, x, batch)
    else:
        pooled = heads.pool(x, batch, spec.pooling, spec.special)
    logits = heads.head_logits(
        spec,
        outer.get("head"),
        used(outer["embed"].get("tokens")),
        x,
        pooled,
        batch,
        fold(keys, spec.layers + 1),
    )
    keys_values, of_source = made
    return Outputs(
        x,
        pooled,
        logits,
        attentions,
        layers,
        keys_values,
        source_keys_values=of_source,
        pool_weights=pool_weights,
    )


def _check_call(spec, batch, rngs, train, collect) -> jax.Array | None:
    """The rows' dropout keys, or None where nothing is dropped."""
    length = batch.tokens.shape[1]
    if isinstance(spec.positions, Learned) and length > spec.positions.maximum:
        raise UserError(
            f"rows of {length} tokens are longer than the model's "
            f"positions.maximum={spec.positions.maximum}; shorten max_tokens of the data or "
            "give the model more positions"
        )
    if batch.source is not None:
        raise UserError(
            "the batch has a source, and this model has no encoder to read it; build an "
            "EncoderDecoderSpec, or give the batch without it"
        )
    if unknown := set(collect) - COLLECTABLE:
        raise UserError(f"cannot collect {sorted(unknown)}; known are {sorted(COLLECTABLE)}")
    redraws = spec.linear is not None and spec.linear.redraw
    drops = bool(spec.dropout or spec.attention_dropout)
    if train and rngs is None and (drops or redraws):
        what = "dropout" if drops else "redrawn random features"
        raise UserError(f"training with {what} needs a PRNG key: apply(..., rngs=key)")
    return row_keys(rngs, batch.examples) if train and drops else None


def _run_blocks(
    spec: "TransformerSpec",
    stacked: tuple[PyTree, jax.Array | None],
    axes: PyTree,
    x: Hidden,
    context: Context,
    keys: jax.Array | None,
    collect: tuple[str, ...],
) -> tuple[Hidden, tuple]:
    """Hidden states after all blocks; of each, if asked: states, weights, keys and values."""
    axes = jax.tree.map(
        lambda names: names[1:],
        axes,
        is_leaf=lambda names: isinstance(names, tuple),
    )
    block = Block(spec, want_weights="attentions" in collect)
    mutable = [MADE] if "keys_values" in collect else []
    past, source = context.past, context.source

    def step(x, layer):
        (params, drawn), index, kept, of_source = layer
        # Where all of a block is computed again, so is the gathering: once for the block.
        collected = gather if spec.remat in ("full", "dots") else gather_late
        params = collected(params, axes, spec.compute_dtype)
        # Layer 0 of the dropout keys is the embedding.
        here = _of_layer(spec, context, index)
        if past is not None:
            here = here.after(Cache(*kept, past.lengths))
        if source is not None:
            here = dataclasses.replace(here, source=source.of_layer(of_source))
        if drawn is not None:
            here = dataclasses.replace(here, features=drawn)
        (y, weights), made = block.apply(
            {"params": params}, x, here, fold(keys, index + 1), mutable=mutable
        )
        found = made[MADE] if made else {}
        (keys_values,), (from_source,) = (
            found.get(name, {}).get("keys_values", (None,))
            for name in ("attention", "cross_attention")
        )
        return y, (y if "layers" in collect else None, weights, keys_values, from_source)

    if spec.remat in ("full", "dots"):
        policy = _products if spec.remat == "dots" else None
        step = jax.checkpoint(step, prevent_cse=not spec.scan, policy=policy)
    kept = None if past is None else (past.keys, past.values)
    of_source = None if source is None else source.keys_values
    first, per_layer = x, (stacked, jnp.arange(spec.layers, dtype=jnp.uint32), kept, of_source)
    if spec.scan:
        x, (layers, *others) = jax.lax.scan(step, x, per_layer)
    else:
        collected = []
        for layer in _unstacked(per_layer, spec.layers):
            x, made = step(x, layer)
            collected.append(made)
        layers, *others = jax.tree.map(lambda *parts: jnp.stack(parts), *collected)
    if layers is not None:
        layers = jnp.concatenate([first[None], layers])
    return x, (layers, *others)


def _products(primitive, *shapes, **params) -> bool:
    """What remat "dots" keeps: products with weights, fused attention, two numbers a norm."""
    policies = jax.checkpoint_policies
    return (
        policies.dots_with_no_batch_dims_saveable(primitive, *shapes, **params)
        or policies.save_only_these_names(STATISTICS)(primitive, *shapes, **params)
        or primitive.name.startswith(FUSED_ATTENTION)
    )


def _unstacked(stacked: PyTree, layers: int) -> list[PyTree]:
    """A tree for each layer; the gradient is one stack, where indices would add up `layers`."""
    leaves, tree = jax.tree.flatten(stacked)
    parts = [jax.lax.split(leaf, [1] * layers) for leaf in leaves]
    return [tree.unflatten([x[0] for x in layer]) for layer in zip(*parts, strict=True)]
