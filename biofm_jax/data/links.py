"""Batches of facts to be told from corrupted ones, with the neighbourhoods of their ends."""

import dataclasses
import logging
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from biofm_jax.array_types import AnyArray
from biofm_jax.data.api import DataSpec, Lengths
from biofm_jax.data.knowledge_graph import KnowledgeGraph, answers_removed, load_graph
from biofm_jax.data.knowledge_graph_readers import (
    read_drkg,
    read_hetionet,
    read_primekg,
    read_triples,
)
from biofm_jax.data.neighbours import Neighbourhood, Neighbours
from biofm_jax.data.sequence import expanded
from biofm_jax.data.sources import cache_folder, file_digest
from biofm_jax.data.token_store import text_hash
from biofm_jax.errors import UserError

log = logging.getLogger("biofm_jax")

# Hetionet is two files in a folder; `path` names the folder, or the edges beside the nodes.
NODES, EDGES = "nodes.tsv.gz", "edges-5k.sif.gz"
READERS = {"primekg": read_primekg, "drkg": read_drkg, "triples": read_triples}


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
class LinkData(DataSpec):
    """The facts of a knowledge graph."""

    path: str = ""
    """A table of facts, of Hetionet the folder or the edges (with `nodes.tsv.gz` beside them), or a
    folder that `KnowledgeGraph.save` wrote; `$BIOFM_DATA/...` is expanded."""
    layout: Literal["hetionet", "primekg", "drkg", "triples"] = "triples"
    """Of the table."""
    answers: tuple[str, ...] = ()
    """Two node types; facts that join them are removed, for they are what is to be predicted."""
    near: int = 8
    """Sampled neighbours of a node (f)."""
    far: int = 8
    """Sampled neighbours of each of those (g)."""
    negatives: int = 1
    """Corruptions of each end (k). They are drawn among the nodes that have a fact of the relation
    at that end (TxGNN, Huang et al. 2024, doi 10.1038/s41591-024-03233-x)."""
    relations: tuple[str, ...] = ()
    """Names of those to predict; none: all."""
    every_node: bool = False
    """Draw corruptions among all nodes of the type instead. To rank drugs without a known use the
    model must have seen them as wrong answers: it would put those first."""
    holdout: float = 0.0
    """Share of facts kept for the validation loss, by hash of the fact; no message passes along
    them in training."""
    tolerance: float = 0.0
    """Share of bad lines with which a run goes on."""

    kind = "knowledge_graph"
    unit = "nodes"

    def __post_init__(self):
        if min(self.near, self.far, self.negatives) < 1:
            raise UserError("data.near, data.far and data.negatives must be 1 or more")
        if len(self.answers) not in (0, 2):
            raise UserError(f"data.answers is {self.answers}; name two node types, or none")
        if not 0 <= self.holdout < 1 or not 0 <= self.tolerance < 1:
            raise UserError(
                f"data.holdout is {self.holdout} and data.tolerance {self.tolerance}; "
                "each is a share, at least 0 and below 1"
            )

    @property
    def max_tokens(self) -> int:
        """Nodes of a row: a fact's two ends and those of its corruptions."""
        return 2 + 2 * self.negatives

    @property
    def attended(self) -> float:
        """Neighbours of a node."""
        return float(self.near)

    def lengths(self) -> Lengths:
        """Of rows, which are full; `attended` are the neighbours of a node."""
        return Lengths(self.attended, 1.0)

    def shapes(self, rows: int, paired: bool = False) -> LinkBatch:
        """The shapes of a batch of so many facts."""
        nodes, near, far = self.max_tokens, self.near, self.far

        def of(*sizes, dtype="int32"):
            return jax.ShapeDtypeStruct((rows, *sizes), dtype)

        beside, behind = of(nodes, near), of(nodes, near, far)
        around = Neighbourhood(of(nodes), beside, beside, behind, behind)
        return LinkBatch(around, of(), of(nodes - 1, dtype="float32"), of(1))

    def open(self) -> KnowledgeGraph:
        """The graph, less the answers; read once, then kept in the cache.

        Raises:
            UserError: an empty path, a bad line, or answers between types that the graph has not.
        """
        if not self.path:
            raise UserError("data.path is empty; name a file with --data.path FILE")
        path = expanded(self.path, "data.path")
        graph = load_graph(path) if (path / "graph.json").is_file() else self._read(path)
        for name in self.answers:
            graph.of_type(name)
        return answers_removed(graph, *self.answers) if self.answers else graph

    def _read(self, path: Path) -> KnowledgeGraph:
        """The graph of a table."""
        files = (path,)
        if self.layout == "hetionet":
            edges = path / EDGES if path.is_dir() else path
            files = edges.parent / NODES, edges
        elif path.is_dir():
            raise UserError(f"data.path {path} is a folder without graph.json; name the file")
        options = self.layout, str(self.tolerance), *map(file_digest, files[:-1])
        folder = cache_folder(self.kind, files[-1], *options)
        if not folder.is_dir():
            read = READERS.get(self.layout, read_hetionet)
            graph, bad = read(*files, tolerance=self.tolerance)
            try:
                graph.save(folder)
            except UserError:
                if not folder.is_dir():  # else another process has made it meanwhile
                    raise
            if bad.records:
                bad.write(folder / "bad_records.jsonl")
                log.warning("%s: %d bad lines, listed in %s", path, len(bad.records), folder)
        return load_graph(folder)

    def batches(
        self,
        store: KnowledgeGraph,
        *,
        batch_size: int,
        seed: int,
        share: np.ndarray | None = None,
        epochs: int | None = None,
        holdout: bool = False,
    ) -> "LinkBatches":
        """Batches of this host; see `DataSpec`.

        Raises:
            UserError: no fact to learn from, or a batch size below 1.
        """
        if batch_size < 1:
            raise UserError("the batch size must be 1 or more")
        chosen = np.arange(len(store.triples))
        if self.relations:
            wanted = [store.relation(name) for name in self.relations]
            chosen = np.flatnonzero(np.isin(store.triples[:, 1], wanted))
        held = held_out(store, self.holdout)
        chosen = chosen[held[chosen] == holdout]
        if not len(chosen):
            names = ", ".join(self.relations) or "any relation"
            side = "held out" if holdout else "to learn from"
            raise UserError(f"the graph has no fact of {names} {side}")
        if holdout:
            epochs = 1
        return LinkBatches(self, store, chosen, held, batch_size, seed, share, epochs, holdout)


def held_out(graph: KnowledgeGraph, share: float) -> np.ndarray:
    """(m,) bool: which facts are kept for the validation loss, by a hash of their names."""
    if not share:
        return np.zeros(len(graph.triples), bool)
    names = [relation.name for relation in graph.relations]
    hashes = np.fromiter(
        (
            text_hash(f"{graph.ids[head]} {names[relation]} {graph.ids[tail]}")
            for head, relation, tail in graph.triples.tolist()
        ),
        np.uint64,
        len(graph.triples),
    )
    return hashes < np.uint64(share * 2**64)


class LinkBatches:
    """Facts in a new order each epoch; a batch depends on the seed and its number alone.

    Args:
        spec: how facts are drawn.
        graph: with all facts; none of them is a corruption.
        chosen: numbers of the facts to learn from.
        held: (m,) bool, facts along which no message passes.
        batch_size: facts of a batch over all hosts.
        seed: of the order, the neighbours and the corruptions.
        share: numbers of this host's rows of each batch; None for all.
        epochs: after which it ends, the last batch filled with empty rows; None never.
        fixed: the facts in their own order, every time.
    """

    def __init__(
        self,
        spec: LinkData,
        graph: KnowledgeGraph,
        chosen: np.ndarray,
        held: np.ndarray,
        batch_size: int,
        seed: int,
        share: np.ndarray | None = None,
        epochs: int | None = None,
        fixed: bool = False,
    ):
        self._spec, self._graph, self._chosen = spec, graph, chosen
        self._batch_size, self._seed, self._next = batch_size, seed, 0
        self._share, self._fixed = share, fixed
        self._end = None if epochs is None else epochs * len(chosen)
        self._neighbours = Neighbours(graph.without(held), seed)
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
        place = self._next * self._batch_size + np.arange(self._batch_size)
        if self._end is not None and place[0] >= self._end:
            raise StopIteration
        there = np.ones(len(place), bool) if self._end is None else place < self._end
        rng = np.random.default_rng([self._seed, 1, self._next])
        self._next += 1
        facts = self._visits(np.where(there, place, place[0]))
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
        batch = LinkBatch(
            around=self._neighbours.around(nodes, (self._spec.near, self._spec.far), rng, hidden),
            relation=relation.astype(np.int32),
            weights=np.where(there[:, None], weights, 0.0).astype(np.float32),
            examples=np.where(there, facts, -1)[:, None].astype(np.int32),
        )
        # Every host draws the whole batch, so that it does not depend on their number.
        return batch if self._share is None else jax.tree.map(lambda x: x[self._share], batch)

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
        graph, facts = self._graph, np.asarray(batch.examples)[:, 0]
        return [
            f"{graph.ids[head]} {graph.relations[relation].name} {graph.ids[tail]}"
            for head, relation, tail in graph.triples[facts[facts >= 0]]
        ]

    def _visits(self, place: np.ndarray) -> np.ndarray:
        """The facts at places in the endless order."""
        epoch, within = np.divmod(place, len(self._chosen))
        wanted = set(epoch.tolist())
        self._order = {e: order for e, order in self._order.items() if e in wanted}
        for e in wanted - self._order.keys():
            rng = np.random.default_rng([self._seed, 0, e])
            self._order[e] = self._chosen if self._fixed else rng.permutation(self._chosen)
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
