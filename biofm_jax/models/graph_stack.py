"""The layers of a graph network, and the network as pure functions."""

import functools
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.array_types import Hidden, PyTree
from biofm_jax.data.batch import Batch, Graph
from biofm_jax.errors import UserError
from biofm_jax.models import heads
from biofm_jax.models.activations import ACTIVATIONS
from biofm_jax.models.api import Outputs, constrain, gather, gather_late, partitioned, used
from biofm_jax.models.dropout import EMBEDDING, FEEDFORWARD, dropout, fold, row_keys
from biofm_jax.models.embedding import look_up
from biofm_jax.models.graph_neighbours import (
    Neighbours,
    kind_counts,
    kind_table,
    neighbour_sum,
    rectified_sum,
    sorted_neighbours,
)
from biofm_jax.models.layers import FeedForward, Norm, normal, parameter

if TYPE_CHECKING:
    from biofm_jax.models.graph import GraphSpec
    from biofm_jax.models.spec import ModelSpec


def multi_hot(classes: jax.Array, sizes: tuple[int, ...], dtype) -> jax.Array:
    """(..., sum of sizes) ones at the class of each feature; none where it is below 0.

    Args:
        classes: (..., k) int32; the first `len(sizes)` are read.
        sizes: number of classes of each feature.
        dtype: of the result.
    """
    parts = [jax.nn.one_hot(classes[..., i], size, dtype=dtype) for i, size in enumerate(sizes)]
    return jnp.concatenate(parts, axis=-1)


def neighbours(spec: "GraphSpec", graph: Graph, dtype: jnp.dtype) -> tuple[Neighbours, jax.Array]:
    """What every layer reads of a batch's edges, made once: the neighbours and the bond counts.

    Counts (b, t, n) are those of `kind_counts`; messages "relu" do not read them.
    """
    near = sorted_neighbours(graph, graph.features.shape[1], spec.bonds, dtype)
    return near, kind_counts(near, spec.bonds, dtype)


class AtomEmbedding(nn.Module):
    """The sum of an atom's vectors: of its type and, unless it is masked, of its features."""

    spec: "GraphSpec"

    @nn.compact
    def __call__(self, batch: Batch, keys) -> Hidden:
        spec, init = self.spec, normal(self.spec.init_std)
        table = parameter(self, "tokens", init, (spec.vocabulary, spec.width), ("vocab", "embed"))
        x = look_up(table, batch.tokens)
        if spec.features:
            shape = (sum(spec.features), spec.width)
            table = parameter(self, "features", init, shape, (None, "embed"))
            ones = multi_hot(batch.graph.features, spec.features, x.dtype)
            if spec.mask is not None:
                ones = ones * (batch.tokens != spec.mask)[:, :, None]
            x = x + ones @ table.astype(x.dtype)
        return dropout(x, spec.dropout, keys, EMBEDDING)


class GraphBlock(nn.Module):
    """One round of messages, the MLP and the norm."""

    spec: "GraphSpec"

    @nn.compact
    def __call__(self, x: Hidden, near: Neighbours, counts, layer, keys) -> Hidden:
        spec, init = self.spec, normal(self.spec.init_std)
        # Between layers, not behind the last: the output of every block is a hidden state.
        x = jnp.where(layer > 0, ACTIVATIONS[spec.activation](x), x)
        table = parameter(self, "bonds", init, (sum(spec.bonds), spec.width), (None, "embed"))
        table = table.astype(x.dtype)
        if spec.message == "sum":
            own = parameter(self, "self", init, (spec.width,), (None,)).astype(x.dtype)
            y = x + own + neighbour_sum(x, near) + counts @ table
        else:
            y = x + rectified_sum(x, kind_table(table, spec.bonds), near)
        y = constrain(y, "batch", "tokens", "width")
        y = FeedForward(spec, name="feedforward")(y)
        y = Norm("layer", spec.norm_epsilon, True, name="norm")(y)
        y = dropout(y, spec.dropout, keys, FEEDFORWARD)
        return constrain(y, "batch", "tokens", "width")


def init_graph(spec: "GraphSpec", rng: jax.Array) -> PyTree:
    """Float32 parameters as a plain nested dict; those of the blocks stacked layer by layer."""
    return nn.unbox(_boxed(spec, rng))


@functools.lru_cache
def graph_axes(spec: "GraphSpec") -> PyTree:
    """The logical names of every parameter's axes."""
    boxed = jax.eval_shape(functools.partial(_boxed, spec), jax.random.key(0))
    names = jax.tree.map(
        lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
    )
    names["blocks"] = jax.tree.map(
        lambda axes: ("layers", *axes), names["blocks"], is_leaf=lambda x: isinstance(x, tuple)
    )
    return names


def _boxed(spec: "GraphSpec", rng: jax.Array) -> PyTree:
    """Parameters with the names of their axes, made on a row of two atoms and one bond."""
    batch = two_atoms(spec)
    hidden = jnp.zeros((1, 2, spec.width))
    keys = dict(zip(("embed", "blocks", "head"), jax.random.split(rng, 3)))
    with partitioned(None):
        params = {"embed": AtomEmbedding(spec).init(keys["embed"], batch, None)["params"]}
        edges, block = neighbours(spec, batch.graph, jnp.dtype("float32")), GraphBlock(spec)
        params["blocks"] = jax.vmap(lambda key: block.init(key, hidden, *edges, 0, None)["params"])(
            jax.random.split(keys["blocks"], spec.layers)
        )
        if spec.head is not None:
            table = nn.unbox(params)["embed"]["tokens"]
            params["head"] = heads.init_head(spec, keys["head"], table, hidden)
    return params


def two_atoms(spec) -> Batch:
    """A row of two atoms and one bond, on which parameters are made."""
    ids = jnp.zeros((1, 2), jnp.int32)
    graph = Graph(
        jnp.zeros((1, 2, len(spec.features)), jnp.int32),
        jnp.array([[[0, 1], [1, 0]]], jnp.int32),
        jnp.ones((1, 2, len(spec.bonds)), jnp.int32),
    )
    return Batch(ids, ids + 1, ids, ids[:, :1], graph=graph)


def apply_graph(
    spec: "GraphSpec",
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
        params: as `init_graph` makes them.
        batch: tokens, segments and the graph are read; `predict` by a language head.
        rngs: one PRNG key, needed for training with dropout.
        train: dropout is on.
        collect: ("layers",) or nothing.
        embedded: (b, t, d) in the place of the atoms' embeddings, to differentiate by.

    Raises:
        UserError: a batch without a graph or with fewer features than the model reads, training
            with dropout but no key, or an unknown name to collect.
    """
    keys = check_call(spec, batch, rngs, train, collect)
    axes, dtype = graph_axes(spec), spec.compute_dtype
    outer = {name: part for name, part in params.items() if name != "blocks"}
    outer = gather(outer, {name: axes[name] for name in outer}, dtype)
    if embedded is None:
        x = AtomEmbedding(spec).apply({"params": outer["embed"]}, batch, fold(keys, 0))
    else:
        x = jnp.asarray(embedded, dtype)
    x = constrain(x, "batch", "tokens", "width")
    edges = neighbours(spec, batch.graph, dtype)
    x, layers = _run_blocks(spec, params["blocks"], axes["blocks"], x, edges, keys, collect)
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
    return Outputs(x, pooled, logits, layers=layers)


def _run_blocks(spec, stacked, axes, x, edges, keys, collect) -> tuple[Hidden, Hidden | None]:
    """Hidden states after all blocks, and (l + 1, b, t, d) those of each, if asked."""
    axes = jax.tree.map(lambda names: names[1:], axes, is_leaf=lambda names: type(names) is tuple)
    block = GraphBlock(spec)

    def step(x, layer):
        params, index = layer
        collected = gather if spec.remat == "full" else gather_late
        params = collected(params, axes, spec.compute_dtype)
        y = block.apply({"params": params}, x, *edges, index, fold(keys, index + 1))
        return y, (y if "layers" in collect else None)

    if spec.remat == "full":
        step = jax.checkpoint(step, prevent_cse=not spec.scan)
    first, per_layer = x, (stacked, jnp.arange(spec.layers, dtype=jnp.uint32))
    x, layers = jax.lax.scan(step, x, per_layer, unroll=1 if spec.scan else spec.layers)
    return x, None if layers is None else jnp.concatenate([first[None], layers])


def check_call(
    spec: "ModelSpec",
    batch: Batch,
    rngs: jax.Array | None,
    train: bool,
    collect: tuple[str, ...],
    random: bool = False,
) -> jax.Array | None:
    """(b,) the rows' keys when training draws something, or None.

    Args:
        spec: of a model of graphs.
        batch: it reads.
        rngs: one key, or None.
        train: whether dropout is on.
        collect: what else is asked for.
        random: whether training draws more than dropout.

    Raises:
        UserError: see `apply_graph`.
    """
    graph = batch.graph
    if graph is None:
        raise UserError(
            f"a {type(spec).__name__} reads the graph of a batch, and this one has none; "
            "MoleculeGraphData makes such batches"
        )
    for name, wanted, found in (
        ("features", spec.features, graph.features.shape[-1]),
        ("bonds", spec.bonds, graph.bonds.shape[-1]),
    ):
        if len(wanted) > found:
            raise UserError(
                f"{type(spec).__name__}.{name} names {len(wanted)} features, and the batch has "
                f"{found}"
            )
    if unknown := set(collect) - {"layers"}:
        raise UserError(f"cannot collect {sorted(unknown)} of a graph network; known is layers")
    if not train or not (spec.dropout or random):
        return None
    if rngs is None:
        raise UserError("training with dropout needs a PRNG key: apply(..., rngs=key)")
    return row_keys(rngs, batch.examples)
