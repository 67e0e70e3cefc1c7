"""The blocks of GROVER, and the network as pure functions."""

import functools
import math
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.array_types import Hidden, PyTree
from biofm_jax.data.batch import Batch
from biofm_jax.models import heads
from biofm_jax.models.activations import ACTIVATIONS
from biofm_jax.models.api import Outputs, constrain, gather, gather_late, partitioned, used
from biofm_jax.models.attention import attention
from biofm_jax.models.dropout import ATTENTION, FEEDFORWARD, HEAD, dropout, fold
from biofm_jax.models.graph_neighbours import (
    Neighbours,
    kind_counts,
    neighbour_sum,
    sorted_neighbours,
)
from biofm_jax.models.graph_stack import AtomEmbedding, check_call, two_atoms
from biofm_jax.models.layers import Dense, Norm, normal, parameter

if TYPE_CHECKING:
    from biofm_jax.models.grover import GroverSpec

FARTHEST = 3  # standard deviations, at which the number of rounds is cut
ROUNDS = 7  # a site of random numbers, beside those of dropout


class Messages(nn.Module):
    """Queries, keys and values: `K` rounds of messages, each head and each of the three alone."""

    spec: "GroverSpec"

    @nn.compact
    def __call__(self, x: Hidden, near: Neighbours, counts, keys) -> jax.Array:
        """(b, t, 3, h, d)."""
        spec, init = self.spec, normal(self.spec.init_std)
        d, h, w = spec.width, spec.heads, spec.head_size
        shape, names = (3, h, w), (None, "heads", None)
        project = Dense((d, *shape), ("embed", *names), spec.init_std, True, name="project")
        start = constrain(project(x), "batch", "tokens", None, "heads", None)
        size = sum(spec.bonds)
        bonds = parameter(self, "bonds", init, (size, *shape), (None, *names)).astype(x.dtype)
        of_bonds = jnp.einsum("btn,nqhw->btqhw", counts, bonds)
        mix = parameter(self, "mix", normal(w**-0.5), (*shape, w), (*names, None)).astype(x.dtype)
        activation = ACTIVATIONS[spec.activation]
        rounds, most = rounds_of(spec, x.shape[0], keys)

        def one(z, number):
            heard = neighbour_sum(z, near) + of_bonds
            said = activation(start + jnp.einsum("btqhv,qhvw->btqhw", heard, mix))
            goes_on = (number < rounds)[:, None, None, None, None]
            return jnp.where(goes_on, said, z), None

        return jax.lax.scan(one, start, jnp.arange(most))[0]


def rounds_of(spec: "GroverSpec", rows: int, keys) -> tuple[jax.Array, int]:
    """(b,) rounds of messages of each row, and the most there can be.

    Args:
        spec: mean and deviation.
        rows: b.
        keys: (b,) of the rows in this layer; None when not training.
    """
    if keys is None or spec.spread == 0.0:
        return jnp.full(rows, spec.hops), spec.hops

    def draw(key):
        return jax.random.truncated_normal(key, -FARTHEST, FARTHEST)

    drawn = jnp.floor(spec.hops + spec.spread * jax.vmap(draw)(fold(keys, ROUNDS)))
    most = spec.hops + math.ceil(FARTHEST * spec.spread)
    return jnp.clip(drawn, 1, most).astype(jnp.int32), most


class ConcatenatedFeedForward(nn.Module):
    """Two dense layers on two hidden states of each atom, one behind the other."""

    spec: "GroverSpec"

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        spec, d, f = self.spec, self.spec.width, self.spec.hidden_width
        y = Dense((2 * d, f), ("embed", "mlp"), spec.init_std, True, name="up")(x)
        y = constrain(ACTIVATIONS[spec.activation](y), "batch", "tokens", "mlp")
        return Dense((f, d), ("mlp", "embed"), spec.init_std, True, name="down")(y)


class GroverBlock(nn.Module):
    """Messages, attention within each molecule, the sum over neighbours, the MLP."""

    spec: "GroverSpec"

    @nn.compact
    def __call__(self, x, first, near, counts, segment_ids, examples: int, keys) -> Hidden:
        spec = self.spec
        d, h, w, std = spec.width, spec.heads, spec.head_size, spec.init_std
        made = Messages(spec, name="messages")(x, near, counts, keys)
        q, k, v = (constrain(made[:, :, i], "batch", "tokens", "heads", None) for i in range(3))
        y = attention(q, k, v, segment_ids, backend=spec.backend, examples=examples)
        y = constrain(y, "batch", "tokens", "heads", None)
        y = Dense((h, w, d), ("heads", None, "embed"), std, True, 2, name="out")(y)
        y = Norm("layer", spec.norm_epsilon, True, name="attention_norm")(y)
        y = constrain(dropout(y, spec.dropout, keys, ATTENTION), "batch", "tokens", "width")
        # The long-range residual connection of the paper: every MLP sees the embeddings.
        y = jnp.concatenate([first, neighbour_sum(y, near)], -1)
        y = ConcatenatedFeedForward(spec, name="feedforward")(y)
        y = Norm("layer", spec.norm_epsilon, True, name="norm")(y)
        y = dropout(y, spec.dropout, keys, FEEDFORWARD)
        return constrain(y, "batch", "tokens", "width")


class ContextMotifLogits(nn.Module):
    """The module of `ContextMotifHead`: float32 logits of atoms and of molecules."""

    spec: "GroverSpec"

    @nn.compact
    def __call__(self, hidden: Hidden, pooled, keys):
        spec, d, std = self.spec, self.spec.width, self.spec.init_std
        shape, axes = (d, spec.head.contexts), ("embed", "vocab")
        contexts = Dense(shape, axes, std, True, name="contexts")(hidden)
        contexts = constrain(contexts.astype(jnp.float32), "batch", "tokens", "vocab")
        pooled = dropout(pooled, spec.dropout, keys, HEAD)
        shape = (d, spec.head.motifs)
        return contexts, Dense(shape, ("embed", None), std, True, name="motifs")(pooled)


def init_grover(spec: "GroverSpec", rng: jax.Array) -> PyTree:
    """Float32 parameters as a plain nested dict; those of the blocks stacked layer by layer."""
    return nn.unbox(_boxed(spec, rng))


@functools.lru_cache
def grover_axes(spec: "GroverSpec") -> PyTree:
    """The logical names of every parameter's axes."""
    boxed = jax.eval_shape(functools.partial(_boxed, spec), jax.random.key(0))
    names = jax.tree.map(
        lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
    )
    names["blocks"] = jax.tree.map(
        lambda axes: ("layers", *axes), names["blocks"], is_leaf=lambda x: isinstance(x, tuple)
    )
    return names


def _edges(spec: "GroverSpec", batch: Batch, dtype) -> tuple[Neighbours, jax.Array]:
    near = sorted_neighbours(batch.graph, batch.tokens.shape[1], spec.bonds, dtype)
    return near, kind_counts(near, spec.bonds, dtype)


def _boxed(spec: "GroverSpec", rng: jax.Array) -> PyTree:
    """Parameters with the names of their axes, made on a row of two atoms and one bond."""
    batch, hidden = two_atoms(spec), jnp.zeros((1, 2, spec.width))
    keys = dict(zip(("embed", "blocks", "head"), jax.random.split(rng, 3)))
    with partitioned(None):
        params = {"embed": AtomEmbedding(spec).init(keys["embed"], batch, None)["params"]}
        edges = _edges(spec, batch, jnp.dtype("float32"))

        def block(key):
            read = (hidden, hidden, *edges, batch.segment_ids, 1, None)
            return GroverBlock(spec).init(key, *read)["params"]

        params["blocks"] = jax.vmap(block)(jax.random.split(keys["blocks"], spec.layers))
        if _own_head(spec):
            made = ContextMotifLogits(spec).init(keys["head"], hidden, hidden[:, :1], None)
            params["head"] = made["params"]
        elif spec.head is not None:
            table = nn.unbox(params)["embed"]["tokens"]
            params["head"] = heads.init_head(spec, keys["head"], table, hidden)
    return params


def _own_head(spec: "GroverSpec") -> bool:
    return hasattr(spec.head, "contexts")


def apply_grover(
    spec: "GroverSpec",
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
        params: as `init_grover` makes them.
        batch: tokens, segments and the graph are read; `predict` by heads of atoms.
        rngs: one PRNG key, needed for training with dropout or a spread of rounds.
        train: dropout and random rounds are on.
        collect: ("layers",) or nothing.
        embedded: (b, t, d) in the place of the atoms' embeddings, to differentiate by.

    Raises:
        UserError: as `apply_graph`.
    """
    keys = check_call(spec, batch, rngs, train, collect, random=spec.spread > 0)
    axes, dtype = grover_axes(spec), spec.compute_dtype
    outer = {name: part for name, part in params.items() if name != "blocks"}
    outer = gather(outer, {name: axes[name] for name in outer}, dtype)
    if embedded is None:
        x = AtomEmbedding(spec).apply({"params": outer["embed"]}, batch, fold(keys, 0))
    else:
        x = jnp.asarray(embedded, dtype)
    x = constrain(x, "batch", "tokens", "width")
    x, layers = _run_blocks(spec, params["blocks"], axes["blocks"], x, batch, keys, collect)
    pooled = heads.pool(x, batch, spec.pooling, spec.special)
    head_keys = fold(keys, spec.layers + 1)
    if _own_head(spec):
        hidden = x
        if batch.predict is not None:
            hidden = jnp.take_along_axis(x, batch.predict[:, :, None], axis=1)
        own = {"params": outer["head"]}
        logits, of_pooled = ContextMotifLogits(spec).apply(own, hidden, pooled, head_keys)
        return Outputs(x, pooled, logits, pooled_logits=of_pooled, layers=layers)
    table = used(outer["embed"]["tokens"])
    logits = heads.head_logits(spec, outer.get("head"), table, x, pooled, batch, head_keys)
    return Outputs(x, pooled, logits, layers=layers)


def _run_blocks(spec, stacked, axes, x, batch, keys, collect) -> tuple[Hidden, Hidden | None]:
    """Hidden states after all blocks, and (l + 1, b, t, d) those of each, if asked."""
    axes = jax.tree.map(lambda names: names[1:], axes, is_leaf=lambda names: type(names) is tuple)
    block, first = GroverBlock(spec), x
    edges = _edges(spec, batch, spec.compute_dtype)
    examples = batch.examples.shape[1]

    def step(x, layer):
        params, index = layer
        collected = gather if spec.remat == "full" else gather_late
        params = collected(params, axes, spec.compute_dtype)
        read = (x, first, *edges, batch.segment_ids, examples, fold(keys, index + 1))
        y = block.apply({"params": params}, *read)
        return y, (y if "layers" in collect else None)

    if spec.remat == "full":
        step = jax.checkpoint(step, prevent_cse=not spec.scan)
    per_layer = stacked, jnp.arange(spec.layers, dtype=jnp.uint32)
    x, layers = jax.lax.scan(step, x, per_layer, unroll=1 if spec.scan else spec.layers)
    return x, None if layers is None else jnp.concatenate([first[None], layers])
