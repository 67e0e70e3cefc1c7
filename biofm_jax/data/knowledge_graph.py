"""A heterogeneous knowledge graph: typed nodes, typed relations, and facts as integer triples."""

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from biofm_jax.errors import UserError
from biofm_jax.files import whole_folder

ARRAYS, RECORD = "graph.npz", "graph.json"


@dataclasses.dataclass(frozen=True)
class Relation:
    """A kind of fact, between two types of nodes.

    Attributes:
        name: such as "CbG".
        head: type of the heads, such as "Compound".
        tail: type of the tails, such as "Gene".
        symmetric: the fact holds backwards too (a gene that interacts with a gene); it is kept
            once, from the lower node to the higher.
    """

    name: str
    head: str
    tail: str
    symmetric: bool = False

    @property
    def label(self) -> str:
        """Name and types, for reports."""
        return f"{self.name} ({self.head} {'-' if self.symmetric else '->'} {self.tail})"


@dataclasses.dataclass(frozen=True)
class KnowledgeGraph:
    """Facts about n nodes, in one order whatever the order of the file they were read from.

    Attributes:
        ids: n names of nodes, unique; sorted by type and then by name.
        names: n names for readers; the id where there is no other.
        types: names of the node types, sorted.
        node_type: (n,) int32 index into `types`.
        relations: sorted by name and types; one that has lost its facts keeps its number.
        triples: (m, 3) int32 head, relation, tail; sorted by relation, head, tail; unique.
        source: where the facts come from, and their licence.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    types: tuple[str, ...]
    node_type: Int[np.ndarray, " n"]
    relations: tuple[Relation, ...]
    triples: Int[np.ndarray, "m 3"]
    source: str = ""

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """The number of each node."""
        return {name: number for number, name in enumerate(self.ids)}

    def relation(self, name: str) -> int:
        """The number of a relation.

        Raises:
            UserError: there is none of that name, or several, with other types.
        """
        found = [i for i, relation in enumerate(self.relations) if relation.name == name]
        if len(found) != 1:
            known = ", ".join(relation.label for relation in self.relations)
            what = "no relation" if not found else f"{len(found)} relations"
            raise UserError(f"the graph has {what} {name!r}; it has {known}")
        return found[0]

    def of_type(self, name: str) -> Int[np.ndarray, " k"]:
        """The numbers of the nodes of a type, ascending.

        Raises:
            UserError: there is no such type.
        """
        if name not in self.types:
            raise UserError(f"the graph has no node type {name!r}; it has {', '.join(self.types)}")
        return np.flatnonzero(self.node_type == self.types.index(name)).astype(np.int32)

    def between(self, first: str, second: str) -> Bool[np.ndarray, " m"]:
        """Which facts join the two types, in either direction."""
        kinds = self.node_type[self.triples[:, [0, 2]]]
        wanted = [self.types.index(name) if name in self.types else -1 for name in (first, second)]
        return (kinds == wanted).all(1) | (kinds == wanted[::-1]).all(1)

    def without(self, facts: Bool[np.ndarray, " m"]) -> "KnowledgeGraph":
        """The graph less some facts; nodes and relations keep their numbers."""
        return dataclasses.replace(self, triples=self.triples[~np.asarray(facts, bool)])

    def with_facts(self, triples: Int[np.ndarray, "k 3"]) -> "KnowledgeGraph":
        """The graph and some more facts between its nodes; those it has already are kept once.

        Raises:
            UserError: a number that is no node or relation, or types the relation does not join.
        """
        triples = np.asarray(triples, np.int32).reshape(-1, 3)
        sizes = (len(self.ids), len(self.relations), len(self.ids))
        if ((triples < 0) | (triples >= sizes)).any():
            raise UserError("a fact names a node or relation that the graph does not have")
        kinds = {name: number for number, name in enumerate(self.types)}
        for column, side in ((0, "head"), (2, "tail")):
            wanted = np.array([kinds[getattr(r, side)] for r in self.relations], np.int32)
            wrong = self.node_type[triples[:, column]] != wanted[triples[:, 1]]
            if wrong.any():
                node, relation = triples[wrong][0, column], triples[wrong][0, 1]
                raise UserError(
                    f"{self.ids[node]} cannot be the {side} of {self.relations[relation].label}"
                )
        return dataclasses.replace(self, triples=in_order(np.concatenate([self.triples, triples])))

    def digest(self) -> str:
        """A fingerprint of nodes, relations and facts."""
        text = json.dumps([self.ids, [relation.label for relation in self.relations]])
        return hashlib.sha256(text.encode() + self.triples.tobytes()).hexdigest()[:16]

    def counts(self) -> dict[str, int]:
        """The number of facts of each relation, by its label."""
        found = np.bincount(self.triples[:, 1], minlength=len(self.relations))
        return {r.label: int(count) for r, count in zip(self.relations, found)}

    def save(self, folder: Path) -> None:
        """Write `graph.npz` (plain arrays) and `graph.json` into a folder that is not there yet.

        Raises:
            UserError: the folder is there, or cannot be made.
        """
        arrays = io.BytesIO()
        np.savez_compressed(arrays, node_type=self.node_type, triples=self.triples)
        record = {
            "ids": self.ids,
            "names": self.names,
            "types": self.types,
            "relations": [dataclasses.asdict(relation) for relation in self.relations],
            "source": self.source,
            "facts": len(self.triples),
        }
        with whole_folder(folder) as made:
            (made / ARRAYS).write_bytes(arrays.getvalue())
            (made / RECORD).write_text(json.dumps(record, indent=0) + "\n")


def load_graph(folder: Path) -> KnowledgeGraph:
    """The graph that `KnowledgeGraph.save` wrote.

    Raises:
        UserError: it is not there, or damaged.
    """
    try:
        record = json.loads((folder / RECORD).read_text())
        with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
            node_type, triples = arrays["node_type"], arrays["triples"]
        graph = KnowledgeGraph(
            ids=tuple(record["ids"]),
            names=tuple(record["names"]),
            types=tuple(record["types"]),
            node_type=node_type,
            relations=tuple(Relation(**relation) for relation in record["relations"]),
            triples=triples,
            source=record["source"],
        )
        whole = len(triples) == record["facts"] and len(node_type) == len(graph.ids)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} holds no knowledge graph: {error}") from None
    if not whole:
        raise UserError(f"{folder}: {ARRAYS} and {RECORD} are of different graphs; save it again")
    return graph


def in_order(triples: Int[np.ndarray, "m 3"]) -> Int[np.ndarray, "k 3"]:
    """Triples without repeats, sorted by relation, head and tail; int32."""
    unique = np.unique(triples[:, [1, 0, 2]], axis=0)
    return np.ascontiguousarray(unique[:, [1, 0, 2]].astype(np.int32))


def nodes_in_order(
    found: Iterable[tuple[str, str, str]],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], np.ndarray]:
    """Ids, names, types and (n,) type numbers of (type, id, name) nodes, in the graph's order."""
    rows = sorted(found)
    types = tuple(sorted({row[0] for row in rows}))
    number = {name: i for i, name in enumerate(types)}
    kinds = np.array([number[row[0]] for row in rows], np.int32)
    return tuple(row[1] for row in rows), tuple(row[2] for row in rows), types, kinds


def answers_removed(graph: KnowledgeGraph, head: str, tail: str) -> KnowledgeGraph:
    """The graph without any fact that joins two types: what is to be predicted, and its kin.

    Every relation between the types goes, in both directions and whatever its name: an inverse
    ("is treated by") and a weaker form ("palliates") tell the answer as well.

    Args:
        graph: with the answers.
        head: a node type, such as "Compound".
        tail: another, such as "Disease".
    """
    return graph.without(graph.between(head, tail))
