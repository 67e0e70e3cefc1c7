"""The layers of a transformer of pairs, and the model as pure functions."""

import functools
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from biofm_jax.array_types import ArrayLike, Hidden, PyTree, Tokens
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models import heads
from biofm_jax.models.activations import ACTIVATIONS
from biofm_jax.models.api import Outputs, constrain, gather, gather_late, partitioned, used
from biofm_jax.models.attention_lean import MASKED, drop_weights
from biofm_jax.models.dropout import (
    ATTENTION,
    EMBEDDING,
    FEEDFORWARD,
    WEIGHTS,
    dropout,
    fold,
    row_keys,
)
from biofm_jax.models.embedding import look_up
from biofm_jax.models.layers import ONES, ZEROS, Dense, FeedForward, Norm, normal, parameter

if TYPE_CHECKING:
    from biofm_jax.models.pair_transformer import PairTransformerSpec

# (b, h, t, t) of each pair of atoms, the first one the query; float32.
Pairs = Float[ArrayLike, "b h t u"]
Coordinates = Float[ArrayLike, "b t 3"]
REACH = 3.0  # kernels begin between 0 and 3 angstrom, as published


class AtomEmbedding(nn.Module):
    """Element vectors, norm, dropout."""

    spec: "PairTransformerSpec"

    @nn.compact
    def __call__(self, tokens: Tokens, keys) -> Hidden:
        spec, shape = self.spec, (self.spec.vocabulary, self.spec.width)
        table = parameter(self, "tokens", normal(spec.init_std), shape, ("vocab", "embed"))
        x = Norm("layer", spec.norm_epsilon, True, name="norm")(look_up(table, tokens))
        return dropout(x, spec.dropout, keys, EMBEDDING)


class PairBias(nn.Module):
    """The first bias of every pair: Gaussian kernels of a x distance + b, a and b by elements."""

    spec: "PairTransformerSpec"

    @nn.compact
    def __call__(self, tokens: Tokens, coordinates: Coordinates) -> Pairs:
        spec, kinds = self.spec, (self.spec.vocabulary,) * 2

        def uniform(key, shape, dtype):
            return jax.random.uniform(key, shape, dtype, 0.0, REACH)

        def of_pairs(name, init):
            table = parameter(self, name, init, kinds, (None, None)).astype(jnp.float32)
            # Products of one-hot rows: their gradient is no scatter of every pair.
            return jnp.einsum("btv,vw,buw->btu", hot, table, hot)

        hot = jax.nn.one_hot(tokens, spec.vocabulary, dtype=jnp.float32)
        stretched = of_pairs("mul", ONES) * distances(coordinates) + of_pairs("bias", ZEROS)
        means, widths = (
            parameter(self, name, uniform, (spec.kernels,), (None,)).astype(jnp.float32)
            for name in ("means", "stds")
        )
        widths = jnp.abs(widths) + 1e-5
        z = (stretched[..., None] - means) / widths
        # The published constant: pi is 3.14159 there.
        x = jnp.exp(-0.5 * z * z) / ((2 * 3.14159) ** 0.5 * widths)
        x = _two_layers(spec, x.astype(spec.compute_dtype), spec.kernels, spec.heads, "")
        return jnp.moveaxis(x.astype(jnp.float32), -1, 1)


def distances(coordinates: Coordinates) -> Float[ArrayLike, "b t u"]:
    """Between all pairs of a row, in the coordinates' unit; with a gradient of 0 at 0."""
    apart = coordinates[:, :, None] - coordinates[:, None]
    squared = jnp.sum(apart * apart, axis=-1)
    same = squared == 0.0
    return jnp.where(same, 0.0, jnp.sqrt(jnp.where(same, 1.0, squared)))


def _two_layers(spec: "PairTransformerSpec", x, inputs: int, outputs: int, name: str):
    """A dense layer, the activation and another one."""
    options = ((None, None), spec.init_std, True)
    x = ACTIVATIONS[spec.activation](Dense((inputs, inputs), *options, name=f"{name}up")(x))
    return Dense((inputs, outputs), *options, name=f"{name}down")(x)


class PairAttention(nn.Module):
    """Attention whose logits are the pairs of the next layer."""

    spec: "PairTransformerSpec"

    @nn.compact
    def __call__(self, x: Hidden, pairs: Pairs, together: Bool[ArrayLike, "b t u"], keys):
        spec = self.spec
        d, h, w = spec.width, spec.heads, spec.head_size
        qkv = Dense((d, 3, h, w), ("embed", None, "heads", None), spec.init_std, True, name="qkv")
        q, k, v = (constrain(y, "batch", "tokens", "heads", None)
                   for y in jnp.moveaxis(qkv(x), 2, 0))  # fmt: skip
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
        pairs = constrain(pairs + logits * w**-0.5, "batch", "heads", None, None)
        weights = jax.nn.softmax(jnp.where(together[:, None], pairs, MASKED), axis=-1)
        used = drop_weights(weights, 0, spec.attention_dropout, fold(keys, WEIGHTS))
        y = jnp.einsum("bhqk,bkhd->bqhd", used.astype(v.dtype), v)
        out = Dense((h, w, d), ("heads", None, "embed"), spec.init_std, True, 2, name="out")
        return out(y), pairs, weights


class PairBlock(nn.Module):
    """One layer: attention and feed-forward, norms before both."""

    spec: "PairTransformerSpec"

    @nn.compact
    def __call__(self, x: Hidden, pairs: Pairs, together, keys):
        spec = self.spec

        def norm(name):
            return Norm("layer", spec.norm_epsilon, True, name=name)

        attend = PairAttention(spec, name="attention")
        y, pairs, weights = attend(norm("attention_norm")(x), pairs, together, keys)
        x = x + dropout(y, spec.dropout, keys, ATTENTION)
        y = FeedForward(spec, name="feedforward")(norm("feedforward_norm")(x))
        x = x + dropout(y, spec.dropout, keys, FEEDFORWARD)
        return constrain(x, "batch", "tokens", "width"), pairs, weights


class Geometry(nn.Module):
    """Coordinates moved along the differences of atoms, and distances, both made of pairs."""

    spec: "PairTransformerSpec"

    @nn.compact
    def __call__(self, added: Pairs, pairs: Pairs, coordinates: Coordinates, members):
        spec, h = self.spec, self.spec.heads
        added, pairs = (jnp.moveaxis(x, 1, -1) for x in (added, pairs))
        added = Norm("layer", spec.norm_epsilon, True, name="pair_norm")(added)
        move = _two_layers(spec, added, h, 1, "move_")[..., 0] * members
        others = jnp.maximum(members.sum(-1, keepdims=True) - 1.0, 1.0)
        pulled = move @ coordinates - move.sum(-1, keepdims=True) * coordinates
        options = ((None, None), spec.init_std, True)
        x = ACTIVATIONS[spec.activation](Dense((h, h), *options, name="distance_up")(pairs))
        x = Norm("layer", spec.norm_epsilon, True, name="distance_norm")(x)
        x = Dense((h, 1), *options, name="distance_down")(x)[..., 0]
        return coordinates + pulled / others, 0.5 * (x + x.swapaxes(1, 2)) * members


def init_pairs(spec: "PairTransformerSpec", rng: jax.Array) -> PyTree:
    """Float32 parameters as a plain nested dict; those of the blocks stacked layer by layer."""
    return nn.unbox(_boxed(spec, rng))


@functools.lru_cache
def pair_axes(spec: "PairTransformerSpec") -> PyTree:
    """The logical names of every parameter's axes."""
    boxed = jax.eval_shape(functools.partial(_boxed, spec), jax.random.key(0))
    names = jax.tree.map(
        lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
    )
    names["blocks"] = jax.tree.map(
        lambda axes: ("layers", *axes), names["blocks"], is_leaf=lambda x: isinstance(x, tuple)
    )
    return names


def _boxed(spec: "PairTransformerSpec", rng: jax.Array) -> PyTree:
    """Parameters with the names of their axes, made on a row of two atoms."""
    ids, places = jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 2, 3))
    hidden, pairs = jnp.zeros((1, 2, spec.width)), jnp.zeros((1, spec.heads, 2, 2))
    together = jnp.ones((1, 2, 2), bool)
    keys = dict(zip(("embed", "pairs", "blocks", "head", "geometry"), jax.random.split(rng, 5)))
    with partitioned(None):
        params = {
            "embed": AtomEmbedding(spec).init(keys["embed"], ids, None)["params"],
            "pairs": PairBias(spec).init(keys["pairs"], ids, places)["params"],
        }
        block = PairBlock(spec)
        params["blocks"] = jax.vmap(
            lambda key: block.init(key, hidden, pairs, together, None)["params"]
        )(jax.random.split(keys["blocks"], spec.layers))
        if spec.final_norm:
            norm = Norm("layer", spec.norm_epsilon, True)
            params["final_norm"] = norm.init(rng, hidden)["params"]
        if spec.geometry:
            made = Geometry(spec).init(keys["geometry"], pairs, pairs, places, together)
            params["geometry"] = made["params"]
        if spec.head is not None:
            table = nn.unbox(params)["embed"]["tokens"]
            params["head"] = heads.init_head(spec, keys["head"], table, hidden)
    return params


def apply_pairs(
    spec: "PairTransformerSpec",
    params: PyTree,
    batch: Batch,
    *,
    rngs: jax.Array | None = None,
    train: bool = False,
    collect: tuple[str, ...] = (),
    embedded: Hidden | None = None,
) -> Outputs:
    """Run the model.

    Args:
        spec: the model's spec.
        params: as `init_pairs` makes them.
        batch: tokens, segments and coordinates are read; `predict` by a language head.
        rngs: one PRNG key, needed for training with dropout.
        train: dropout is on.
        collect: any of "layers" and "attentions".
        embedded: (b, t, d) in the place of the atoms' embeddings, to differentiate by.

    Raises:
        UserError: a batch without coordinates, training with dropout but no key, or an unknown
            name to collect.
    """
    keys = _check_call(spec, batch, rngs, train, collect)
    axes, dtype = pair_axes(spec), spec.compute_dtype
    outer = {name: part for name, part in params.items() if name != "blocks"}
    outer = gather(outer, {name: axes[name] for name in outer}, dtype)
    if embedded is None:
        x = AtomEmbedding(spec).apply({"params": outer["embed"]}, batch.tokens, fold(keys, 0))
    else:
        x = jnp.asarray(embedded, dtype)
    x = constrain(x, "batch", "tokens", "width")
    places = jnp.asarray(batch.coordinates, jnp.float32)
    first = PairBias(spec).apply({"params": outer["pairs"]}, batch.tokens, places)
    first = constrain(first, "batch", "heads", None, None)
    # Padding sees padding: no row of the softmax is empty.
    together = batch.segment_ids[:, :, None] == batch.segment_ids[:, None, :]
    (x, pairs), (layers, weights) = _run_blocks(
        spec, params["blocks"], axes["blocks"], (x, first), together, keys, collect
    )
    if spec.final_norm:
        norm = Norm("layer", spec.norm_epsilon, True)
        x = norm.apply({"params": outer["final_norm"]}, x)
    moved = far = None
    if "geometry" in outer:
        members = (together & (batch.segment_ids > 0)[:, None, :]).astype(jnp.float32)
        parts = (pairs - first).astype(dtype), pairs.astype(dtype), places, members
        moved, far = Geometry(spec).apply({"params": outer["geometry"]}, *parts)
    pooled = heads.pool(x, batch, spec.pooling, spec.special)
    logits = heads.head_logits(
        spec,
        outer.get("head"),
        used(outer["embed"]["tokens"]),
        x,
        pooled,
        batch,
        fold(keys, spec.layers + 1),
    )
    return Outputs(
        x, pooled, logits, attentions=weights, layers=layers, coordinates=moved, distances=far
    )


def _check_call(spec, batch, rngs, train, collect) -> jax.Array | None:
    """The rows' dropout keys, or None where nothing is dropped."""
    if batch.coordinates is None:
        raise UserError(
            "PairTransformerSpec reads coordinates, and the batch has none; set "
            "data=ConformerData(...)"
        )
    if unknown := set(collect) - {"layers", "attentions"}:
        raise UserError(f"cannot collect {sorted(unknown)}; known are attentions and layers")
    if not train or not (spec.dropout or spec.attention_dropout):
        return None
    if rngs is None:
        raise UserError("training with dropout needs a PRNG key: apply(..., rngs=key)")
    return row_keys(rngs, batch.examples)


def _run_blocks(spec, stacked, axes, start, together, keys, collect):
    """Hidden states and pairs after all blocks; of each, if asked, states and weights."""
    axes = jax.tree.map(lambda names: names[1:], axes, is_leaf=lambda names: type(names) is tuple)
    block = PairBlock(spec)

    def step(carried, layer):
        params, index = layer
        collected = gather if spec.remat == "full" else gather_late
        params = collected(params, axes, spec.compute_dtype)
        keys_here = fold(keys, index + 1)
        x, pairs, weights = block.apply({"params": params}, *carried, together, keys_here)
        kept = (
            x if "layers" in collect else None,
            weights if "attentions" in collect else None,
        )
        return (x, pairs), kept

    if spec.remat == "full":
        step = jax.checkpoint(step, prevent_cse=not spec.scan)
    per_layer = stacked, jnp.arange(spec.layers, dtype=jnp.uint32)
    if spec.scan:
        end, (layers, weights) = jax.lax.scan(step, start, per_layer)
    else:
        end, kept = start, []
        for i in range(spec.layers):
            end, made = step(end, jax.tree.map(lambda leaf, i=i: leaf[i], per_layer))
            kept.append(made)
        layers, weights = jax.tree.map(lambda *parts: jnp.stack(parts), *kept)
    if layers is not None:
        layers = jnp.concatenate([start[0][None], layers])
    return end, (layers, weights)
