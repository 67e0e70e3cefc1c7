"""Sums over the neighbours of atoms, without a scatter in either direction.

Every bond is two edges with the same features, so that "u sends to v" and "v sends to u" are one
relation: the gradient of a sum over the neighbours is a sum over the neighbours too. Edges are
sorted by receiver once a step; then each atom reads its first neighbour, its second, and so on.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from biofm_jax.array_types import AnyArray, ArrayLike, Hidden
from biofm_jax.data.batch import Graph
from biofm_jax.models.api import constrain, platform

# Atoms with more neighbours are rare (SF6, metals); only then a loop goes on behind these.
UNROLLED = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The existing edges of packed graphs, those of a receiver side by side.

    Attributes:
        senders: (b, e) the sender of each edge, in the order of the receivers.
        kinds: (b, e) the number of the bond's kind; see `kind_table`.
        first: (b, t) where the edges of each atom start.
        degree: (b, t) how many it has.
        adjacency: (b, t, t) edges from the second atom to the first, in the compute dtype: a
            product with it is faster than gathers where there are units for matrices. None on
            a CPU.
    """

    senders: Int32[ArrayLike, "b e"]
    kinds: Int32[ArrayLike, "b e"]
    first: Int32[ArrayLike, "b t"]
    degree: Int32[ArrayLike, "b t"]
    adjacency: Float[ArrayLike, "b t t"] | None = None


def sorted_neighbours(graph: Graph, length: int, sizes: tuple[int, ...], dtype) -> Neighbours:
    """What the sums below read of a batch's edges.

    Args:
        graph: of a batch; both edges of a bond exist or neither does.
        length: of a row, t.
        sizes: number of classes of each feature of a bond that is told apart.
        dtype: of the adjacency matrix.
    """
    exists = graph.bonds[:, :, 0] > 0
    kinds = jnp.zeros(exists.shape, jnp.int32)
    for i, size in enumerate(sizes):
        kinds = kinds * size + jnp.clip(graph.bonds[:, :, i] - 1, 0, size - 1)
    receivers = jnp.where(exists, graph.edges[:, :, 1], length)
    order = jnp.argsort(receivers, axis=1, stable=True)
    senders, kinds, receivers = (
        jnp.take_along_axis(x, order, axis=1) for x in (graph.edges[:, :, 0], kinds, receivers)
    )
    starts = jax.vmap(lambda row: jnp.searchsorted(row, jnp.arange(length + 1)))(receivers)
    starts = starts.astype(jnp.int32)
    adjacency = None
    if platform() != "cpu":
        adjacency = jax.vmap(_adjacency, (0, 0, None, None))(graph.edges, exists, length, dtype)
        adjacency = constrain(adjacency, "batch", None, None)
    return Neighbours(senders, kinds, starts[:, :-1], starts[:, 1:] - starts[:, :-1], adjacency)


def _adjacency(edges, exists, length, dtype):
    empty = jnp.zeros((length, length), dtype)
    return empty.at[edges[:, 1], edges[:, 0]].add(exists.astype(dtype))


def kind_table(table: jax.Array, sizes: tuple[int, ...]) -> jax.Array:
    """(c, d) the vector of each kind of bond, the sum of its features' vectors.

    Args:
        table: (sum of sizes, d) a vector for each class of each feature.
        sizes: number of classes of each feature; c is their product.
    """
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    parts = [table[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    summed = parts[0]
    for part in parts[1:]:
        summed = (summed[:, None] + part).reshape(-1, table.shape[1])
    return summed


def kind_counts(near: Neighbours, sizes: tuple[int, ...], dtype) -> jax.Array:
    """(b, t, sum of sizes) how many bonds of each class of each feature an atom has.

    Args:
        near: of a batch.
        sizes: as of `sorted_neighbours`.
        dtype: of the result.
    """
    classes = kind_table(jnp.eye(sum(sizes), dtype=dtype), sizes)

    def counted(total, slot):
        kinds, here = _at(near, near.kinds, slot)
        return total + jnp.where(here[:, :, None], classes[kinds], 0)

    zeros = jnp.zeros((*near.first.shape, sum(sizes)), dtype)
    return jax.lax.stop_gradient(_over_slots(near, counted, zeros))


def neighbour_sum(x: AnyArray, near: Neighbours) -> jax.Array:
    """The sum of the hidden states of each atom's neighbours, in the shape of `x`.

    Args:
        x: (b, t, ...), such as (b, t, d).
        near: of the batch.
    """
    if near.adjacency is None:
        return _gathered(x, near)
    return jnp.einsum("btu,bu...->bt...", near.adjacency, x)


@jax.custom_vjp
def _gathered(x, near):
    def added(total, slot):
        return total + _rows(x, near, slot)

    return _over_slots(near, added, jnp.zeros_like(x))


_gathered.defvjp(
    lambda x, near: (_gathered(x, near), near), lambda near, g: (_gathered(g, near), None)
)


@jax.custom_vjp
def rectified_sum(x: Hidden, vectors: AnyArray, near: Neighbours) -> Hidden:
    """(b, t, d) the sum of relu(h_u + e_uv) over the neighbours u of each atom v.

    Args:
        x: (b, t, d).
        vectors: (c, d) of each kind of bond.
        near: of the batch.
    """

    def added(total, slot):
        kinds, here = _at(near, near.kinds, slot)
        message = jax.nn.relu(_rows(x, near, slot) + vectors[kinds])
        return total + jnp.where(here[:, :, None], message, 0)

    return _over_slots(near, added, jnp.zeros_like(x))


def _rectified_backward(saved, gradient):
    """What x_v sends passes at its neighbour u where x_v + e is above 0; so what it gets back."""
    x, vectors, near = saved

    def added(totals, slot):
        of_x, of_vectors = totals
        kinds, here = _at(near, near.kinds, slot)
        bonds = vectors[kinds]
        back = jnp.where(here[:, :, None] & (x + bonds > 0), _rows(gradient, near, slot), 0)
        ones = jax.nn.one_hot(kinds, len(vectors), dtype=x.dtype)
        flat = back.reshape(math.prod(kinds.shape), -1)
        of_vectors = of_vectors + ones.reshape(len(flat), -1).T @ flat
        return of_x + back, of_vectors

    zeros = jnp.zeros_like(x), jnp.zeros_like(vectors)
    return *_over_slots(near, added, zeros), None


rectified_sum.defvjp(
    lambda x, vectors, near: (rectified_sum(x, vectors, near), (x, vectors, near)),
    _rectified_backward,
)


def _over_slots(near: Neighbours, step: Callable, total):
    """`total = step(total, slot)` for the first neighbour of all atoms, the second, and so on."""
    for slot in range(UNROLLED):
        total = step(total, slot)
    most = near.degree.max(initial=0)
    return jax.lax.fori_loop(UNROLLED, jnp.maximum(most, UNROLLED), lambda k, y: step(y, k), total)


def _at(near: Neighbours, values: AnyArray, slot) -> tuple[jax.Array, jax.Array]:
    """(b, t) the value of each atom's edge of that number, and whether it has one."""
    place = jnp.minimum(near.first + slot, values.shape[1] - 1)
    return jnp.take_along_axis(values, place, axis=1), slot < near.degree


def _rows(x: AnyArray, near: Neighbours, slot) -> jax.Array:
    """(b, t, ...) the state of each atom's neighbour of that number, or zeros."""
    senders, here = _at(near, near.senders, slot)
    rows = jax.vmap(lambda x, senders: x.at[senders].get(mode="promise_in_bounds"))(x, senders)
    return jnp.where(here.reshape(*here.shape, *[1] * (x.ndim - 2)), rows, 0)
