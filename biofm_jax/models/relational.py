"""Relation-aware message passing over sampled neighbourhoods, and DistMult on its ends."""

import dataclasses

import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray, PyTree
from biofm_jax.data.links import LinkBatch, LinkData
from biofm_jax.data.neighbours import Neighbourhood
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model, Outputs, constrain, gather
from biofm_jax.models.spec import ModelSpec, check_tensor

LAYERS = 2  # as many as a `Neighbourhood` has steps
SLOPE = 0.01  # of leaky ReLU below 0

LAYER_AXES = {
    "bases": (None, "embed", "mlp"),
    "mix": (None, None),
    "root": ("embed", "mlp"),
    "bias": (None,),
}


@dataclasses.dataclass(frozen=True)
class DistMult:
    """Scores a fact as the sum over d of h_d r_d t_d (Yang et al. 2015, arXiv:1412.6575)."""


@dataclasses.dataclass(frozen=True)
class RelationalSpec(ModelSpec):
    """Two R-GCN layers with basis decomposition (Schlichtkrull et al. 2018, arXiv:1703.06103).

    TxGNN (Huang et al. 2024, doi 10.1038/s41591-024-03233-x) has two layers of width 128 with a
    matrix for each relation; bases share them (equation 3 of R-GCN).

    Attributes:
        nodes: n, of the graph.
        relations: R, of the graph; messages have 2R, one for each direction.
        width: of embeddings and layers.
        bases: matrices of which every relation's is a mixture.
        dropout: of the node embeddings, when training.
        head: what scores a fact.
    """

    nodes: int
    relations: int
    width: int = 64
    bases: int = 8
    dropout: float = 0.0
    head: DistMult = DistMult()

    def check(self, data, mesh) -> None:
        """See `ModelSpec`; the data must be a graph, and no mesh may cut a neighbourhood."""
        if not isinstance(data, LinkData):
            raise UserError(
                f"RelationalSpec reads facts of a graph, and {type(data).__name__} has none; set "
                "data=LinkData(...), or another model"
            )
        check_tensor(self.width, mesh[2], "model.width")
        if mesh[3] > 1:
            raise UserError(
                f"mesh.context is {mesh[3]}, and a neighbourhood is not cut; set "
                "--mesh.context 1 and put the devices on data or fsdp"
            )

    def check_opened(self, store) -> None:
        """See `ModelSpec`; a row for each node and relation."""
        found = {"nodes": len(store.ids), "relations": len(store.relations)}
        if any(getattr(self, name) != size for name, size in found.items()):
            options = " ".join(f"--model.{name} {size}" for name, size in found.items())
            raise UserError(
                f"the model has {self.nodes:,} nodes and {self.relations} relations, the graph "
                f"{found['nodes']:,} and {found['relations']}; set {options}"
            )

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for a node with `attended` neighbours, that have as many each.

        Its two layers run once on each neighbour and twice on the node.
        """
        square, mixed = self.width * self.width, self.bases * self.width
        body = (attended + 2) * (1 + self.bases) * square + attended * (attended + 2) * mixed
        return 6.0 * body

    def build(self) -> Model:
        """The pure functions.

        Raises:
            UserError: a size below 1, or a dropout that is no probability.
        """
        if min(self.nodes, self.relations, self.width, self.bases) < 1:
            raise UserError(f"nodes, relations, width and bases must be 1 or more: {self}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout is {self.dropout}; it must be in [0, 1)")

        def init(rng, batch=None) -> PyTree:
            return _init(self, rng)

        def apply(params, batch, *, rngs=None, train=False) -> Outputs:
            return _apply(self, params, batch, rngs if train else None)

        return Model(init, apply, lambda params: _axes(), self)


def relational_layer(
    params: PyTree, own: AnyArray, near: AnyArray, relation: AnyArray
) -> jax.Array:
    """One R-GCN layer (Schlichtkrull et al. 2018, equation 2, with 1/c = 1/|N_i^r|).

    h_i = W_0 h_i + sum_r 1/c_ir sum_{j in N_i^r} W_r h_j + bias, with W_r = sum_b a_rb V_b.

    Args:
        params: bases (B, d, e), mix (relations, B), root (d, e), bias (e,).
        own: (..., d) states of the nodes.
        near: (..., f, d) states of their neighbours.
        relation: (..., f) int32; -1 is an empty slot.

    Returns:
        (..., e), before the activation.
    """
    there = relation >= 0
    same = (relation[..., :, None] == relation[..., None, :]) & there[..., None, :]
    share = there / jnp.maximum(same.sum(-1), 1)
    mix = params["mix"][jnp.maximum(relation, 0)] * share[..., None]
    mixed = jnp.einsum("...fb,...fd->...bd", mix, near)
    message = jnp.einsum("...bd,bde->...e", mixed, params["bases"])
    return message + own @ params["root"] + params["bias"]


def distmult(head: AnyArray, relation: AnyArray, tail: AnyArray) -> jax.Array:
    """sum_d h_d r_d t_d over the last axis (Yang et al. 2015, arXiv:1412.6575)."""
    return jnp.sum(head * relation * tail, axis=-1)


def _init(spec: RelationalSpec, rng) -> PyTree:
    keys = iter(jax.random.split(rng, 2 + 3 * LAYERS))
    width = spec.width
    glorot = jax.nn.initializers.glorot_uniform(in_axis=-2, out_axis=-1)
    layers = {}
    for number in range(LAYERS):
        layers[f"layer_{number}"] = {
            "bases": glorot(next(keys), (spec.bases, width, width)),
            "mix": jax.nn.initializers.normal(spec.bases**-0.5)(
                next(keys), (2 * spec.relations, spec.bases)
            ),
            "root": glorot(next(keys), (width, width)),
            "bias": jnp.zeros(width),
        }
    return {
        "nodes": jax.nn.initializers.normal(1.0)(next(keys), (spec.nodes, width)),
        "relations": jax.nn.initializers.normal(width**-0.5)(next(keys), (spec.relations, width)),
        **layers,
    }


def _axes() -> PyTree:
    layers = {f"layer_{number}": LAYER_AXES for number in range(LAYERS)}
    return {"nodes": ("vocab", "embed"), "relations": (None, "embed"), **layers}


def _apply(spec: RelationalSpec, params: PyTree, batch, rng) -> Outputs:
    around: Neighbourhood = getattr(batch, "around", batch)
    table = gather(params["nodes"], _axes()["nodes"], jnp.float32)

    def embedded(nodes, number: int):
        states = constrain(table[nodes], "batch", *(None,) * nodes.ndim)
        if rng is None or not spec.dropout:
            return states
        keep = jax.random.bernoulli(jax.random.fold_in(rng, number), 1 - spec.dropout, states.shape)
        return jnp.where(keep, states / (1 - spec.dropout), 0.0)

    own, near, far = (
        embedded(nodes, i) for i, nodes in enumerate((around.nodes, around.near, around.far))
    )
    first, second = (
        gather(params[f"layer_{number}"], LAYER_AXES, jnp.float32) for number in range(LAYERS)
    )
    near_after = relational_layer(first, near, far, around.far_relation)
    own_after = relational_layer(first, own, near, around.near_relation)
    near, own = (jax.nn.leaky_relu(x, SLOPE) for x in (near_after, own_after))
    states = relational_layer(second, own, near, around.near_relation)
    if not isinstance(batch, LinkBatch):
        return Outputs(hidden=states)
    head, tail, others = states[:, :1], states[:, 1:2], states[:, 2:]
    tails, heads = jnp.split(others, 2, axis=1)
    relation = gather(params["relations"], _axes()["relations"], jnp.float32)[batch.relation][
        :, None
    ]
    pairs = ((head, tail), (head, tails), (heads, tail))
    logits = jnp.concatenate([distmult(h, relation, t) for h, t in pairs], axis=1)
    return Outputs(hidden=states, logits=logits)
