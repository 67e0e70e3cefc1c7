"""Typed neighbourhoods of fixed shape, sampled from a knowledge graph."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Int

from biofm_jax.array_types import AnyArray
from biofm_jax.data.knowledge_graph import KnowledgeGraph

EMPTY = -1  # the relation of a slot without a neighbour


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neighbourhood:
    """Nodes and what is around them, two steps far; an empty slot has relation -1 and node 0.

    Attributes:
        nodes: (b, s) int32.
        near: (b, s, f) int32 neighbours of the nodes.
        near_relation: (b, s, f) int32 by which relation; r + R is relation r backwards.
        far: (b, s, f, g) int32 neighbours of the neighbours.
        far_relation: (b, s, f, g) int32.
    """

    nodes: AnyArray
    near: AnyArray
    near_relation: AnyArray
    far: AnyArray
    far_relation: AnyArray


class Neighbours:
    """The facts of a graph by node, in both directions, with a vectorised sampler.

    Args:
        graph: R relations; a fact (h, r, t) is seen from h as r and from t as r + R, or as r too
            where it is symmetric.
        seed: of the order of a node's neighbours within a relation.
    """

    def __init__(self, graph: KnowledgeGraph, seed: int = 0):
        head, relation, tail = graph.triples.T.astype(np.int64)
        both = np.array([r.symmetric for r in graph.relations], bool)
        back = np.where(both[relation], relation, relation + len(graph.relations))
        self.relations = 2 * len(graph.relations)
        self._seed = seed
        start = np.concatenate([head, tail])
        kind = np.concatenate([relation, back])
        other = np.concatenate([tail, head])
        shuffled = np.random.default_rng(seed).random(len(start))
        order = np.lexsort((shuffled, kind, start))
        self._other = other[order].astype(np.int32)
        # A group is the neighbours of one node by one relation.
        key = (start * self.relations + kind)[order]
        groups, self._first, self._size = np.unique(key, return_index=True, return_counts=True)
        self._kind = (groups % self.relations).astype(np.int32)
        nodes = np.arange(len(graph.ids) + 1)
        self._groups = np.searchsorted(groups // self.relations, nodes)  # (n + 1,) offsets

    def sample(
        self, nodes: Int[np.ndarray, "..."], fanout: int, rng: np.random.Generator
    ) -> tuple[Int[np.ndarray, "... f"], Int[np.ndarray, "... f"]]:
        """Neighbours without replacement; the relations of a node take turns at its slots.

        So a relation with thousands of facts does not crowd out one with two. A node all of whose
        groups have at most fanout // relations neighbours has them all.

        Args:
            nodes: (...) node numbers; -1 has no neighbours.
            fanout: f, slots a node.
            rng: which of many neighbours are taken.

        Returns:
            (..., f) int32 neighbours and relations; an empty slot is 0 and -1.
        """
        flat = np.maximum(nodes, 0).ravel()
        first = self._groups[flat]
        kinds = np.where(nodes.ravel() < 0, 0, self._groups[flat + 1] - first)
        slot = np.arange(fanout)
        shift = rng.integers(0, 1 << 30, (len(flat), 2))
        turns = np.maximum(kinds, 1)[:, None]
        group = first[:, None] + (slot + shift[:, :1]) % turns
        group = np.minimum(group, len(self._size) - 1)
        turn = slot // turns
        size = self._size[group]
        there = (kinds > 0)[:, None] & (turn < size)
        edge = self._first[group] + (turn + shift[:, 1:]) % size
        other = np.where(there, self._other[edge], 0)
        relation = np.where(there, self._kind[group], EMPTY)
        shape = (*nodes.shape, fanout)
        return other.reshape(shape), relation.reshape(shape)

    def around(
        self,
        nodes: Int[np.ndarray, "b s"],
        fanouts: tuple[int, int],
        rng: np.random.Generator,
        hidden: Int[np.ndarray, "b s"] | None = None,
    ) -> Neighbourhood:
        """The neighbourhoods of nodes.

        Args:
            nodes: (b, s).
            fanouts: f neighbours of a node and g of each neighbour.
            rng: as of `sample`.
            hidden: (b, s) the neighbour that a node must not see, the other end of the fact to
                be predicted; -1 for none.
        """
        near, near_relation = self.sample(nodes, fanouts[0], rng)
        if hidden is not None:
            seen = near == hidden[..., None]
            near, near_relation = np.where(seen, 0, near), np.where(seen, EMPTY, near_relation)
        there = np.where(near_relation == EMPTY, -1, near)
        far, far_relation = self.sample(there, fanouts[1], rng)
        return Neighbourhood(nodes.astype(np.int32), near, near_relation, far, far_relation)
