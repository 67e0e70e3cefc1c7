"""Batches of facts to be told from corrupted ones, with the neighbourhoods of their ends."""

import dataclasses

import jax
import numpy as np

from biofm_jax.array_types import AnyArray
from biofm_jax.data.knowledge_graph import KnowledgeGraph
from biofm_jax.data.neighbours import Neighbourhood, Neighbours
from biofm_jax.errors import UserError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinkBatch:
    """b facts with 2k corruptions of each: k other tails, then k other heads.

    Attributes:
        around: the nodes (b, 2 + 2k) head, tail, other tails, other heads.
        relation: (b,) int32.
        weights: (b, 1 + 2k) float32 of the fact and of its corruptions, each side a half in sum;
            0 where a corruption is a fact too.
        examples: (b, 1) int32 number of the fact in the graph.
    """

    around: Neighbourhood
    relation: AnyArray
    weights: AnyArray
    examples: AnyArray

    # What the trainer asks of any batch: rows, and the number of what is learned from.
    pair = None

    @property
    def tokens(self):
        """(b, 2 + 2k): a row for each fact."""
        return self.around.nodes

    @property
    def segment_ids(self):
        """(b, 1 + 2k): the scored pairs count as tokens."""
        return self.weights


@dataclasses.dataclass(frozen=True)
class LinkSpec:
    """How facts are drawn.

    Attributes:
        near: f, sampled neighbours of a node.
        far: g, sampled neighbours of each of those.
        negatives: k corruptions of each end. They are drawn among the nodes that have a fact of
            the relation at that end (TxGNN, Huang et al. 2024, doi 10.1038/s41591-024-03233-x).
        relations: names of those to predict; none: all.
        every_node: draw corruptions among all nodes of the type instead. To rank drugs without
            a known use the model must have seen them as wrong answers: it would put those first.
    """

    near: int = 8
    far: int = 8
    negatives: int = 1
    relations: tuple[str, ...] = ()
    every_node: bool = False

    def batches(self, graph: KnowledgeGraph, batch_size: int, seed: int = 0) -> "LinkBatches":
        """An endless iterator of batches.

        Raises:
            UserError: no fact to learn from, or a size below 1.
        """
        if min(self.near, self.far, self.negatives, batch_size) < 1:
            raise UserError("near, far, negatives and the batch size must be 1 or more")
        chosen = np.arange(len(graph.triples))
        if self.relations:
            wanted = [graph.relation(name) for name in self.relations]
            chosen = np.flatnonzero(np.isin(graph.triples[:, 1], wanted))
        if not len(chosen):
            names = ", ".join(self.relations) or "any relation"
            raise UserError(f"the graph has no fact of {names} to learn from")
        return LinkBatches(self, graph, chosen, batch_size, seed)


class LinkBatches:
    """Facts in a new order each epoch; a batch depends on the seed and its number alone."""

    def __init__(self, spec: LinkSpec, graph: KnowledgeGraph, chosen, batch_size: int, seed: int):
        self._spec, self._graph, self._chosen = spec, graph, chosen
        self._batch_size, self._seed, self._next = batch_size, seed, 0
        self._neighbours = Neighbours(graph, seed)
        self._order: dict[int, np.ndarray] = {}
        self._keys = np.sort(self._key(*graph.triples.T))
        self._ends = {}
        for number, relation in enumerate(graph.relations):
            facts = graph.triples[graph.triples[:, 1] == number]
            linked = np.unique(facts[:, 2]), np.unique(facts[:, 0])
            whole = graph.of_type(relation.tail), graph.of_type(relation.head)
            self._ends[number] = whole if spec.every_node else linked

    def __iter__(self) -> "LinkBatches":
        return self

    def __next__(self) -> LinkBatch:
        rng = np.random.default_rng([self._seed, 1, self._next])
        place = self._next * self._batch_size + np.arange(self._batch_size)
        self._next += 1
        facts = self._visits(place)
        head, relation, tail = self._graph.triples[facts].T
        k = self._spec.negatives
        other = np.stack([self._corrupted(relation, side, k, rng) for side in (0, 1)])
        tails, heads = other
        nodes = np.concatenate([head[:, None], tail[:, None], tails, heads], axis=1)
        hidden = np.full(nodes.shape, -1, np.int64)
        hidden[:, 0], hidden[:, 1] = tail, head
        false = np.concatenate(
            [
                ~self._known(head[:, None], relation[:, None], tails),
                ~self._known(heads, relation[:, None], tail[:, None]),
            ],
            axis=1,
        )
        weights = np.concatenate([np.ones((len(facts), 1)), false / (2 * k)], axis=1)
        return LinkBatch(
            around=self._neighbours.around(nodes, (self._spec.near, self._spec.far), rng, hidden),
            relation=relation.astype(np.int32),
            weights=weights.astype(np.float32),
            examples=facts[:, None].astype(np.int32),
        )

    def state(self) -> dict:
        """JSON-able: the next batch, and what decides the order."""
        return {"next": self._next, "seed": self._seed, "facts": len(self._chosen)}

    def restore(self, state: dict) -> None:
        """Go to a position that `state` gave.

        Raises:
            UserError: it is of other facts or another seed.
        """
        now = self.state()
        for name in ("seed", "facts"):
            if state[name] != now[name]:
                raise UserError(
                    f"the checkpoint's links had {name} = {state[name]}, now it is {now[name]}: "
                    "the order cannot be continued; start in a new workdir"
                )
        self._next = state["next"]

    def names(self, batch: LinkBatch) -> list[str]:
        """The facts of a batch, as text."""
        graph = self._graph
        return [
            f"{graph.ids[head]} {graph.relations[relation].name} {graph.ids[tail]}"
            for head, relation, tail in graph.triples[np.asarray(batch.examples)[:, 0]]
        ]

    def _visits(self, place: np.ndarray) -> np.ndarray:
        """The facts at places in the endless order."""
        epoch, within = np.divmod(place, len(self._chosen))
        wanted = set(epoch.tolist())
        self._order = {e: order for e, order in self._order.items() if e in wanted}
        for e in wanted - self._order.keys():
            rng = np.random.default_rng([self._seed, 0, e])
            self._order[e] = rng.permutation(self._chosen)
        return np.array([self._order[e][i] for e, i in zip(epoch.tolist(), within.tolist())])

    def _corrupted(self, relation, side: int, k: int, rng) -> np.ndarray:
        """(b, k) nodes drawn from the tails (side 0) or heads (1) that each relation has."""
        drawn = rng.random((len(relation), k))
        out = np.zeros(drawn.shape, np.int64)
        for kind in np.unique(relation):
            pool, rows = self._ends[int(kind)][side], relation == kind
            out[rows] = pool[(drawn[rows] * len(pool)).astype(np.int64)]
        return out

    def _key(self, head, relation, tail) -> np.ndarray:
        n, kinds = len(self._graph.ids), len(self._graph.relations)
        return (np.asarray(head, np.int64) * kinds + relation) * n + tail

    def _known(self, head, relation, tail) -> np.ndarray:
        """Which triples are facts, in either direction where that is the same."""
        both = np.array([r.symmetric for r in self._graph.relations], bool)[relation]
        low, high = np.minimum(head, tail), np.maximum(head, tail)
        key = self._key(np.where(both, low, head), relation, np.where(both, high, tail))
        found = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return self._keys[found] == key
