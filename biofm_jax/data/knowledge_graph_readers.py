"""Readers of knowledge graphs: Hetionet, PrimeKG, DRKG and triples in a table.

Every line that cannot be used is named by file, line and reason: a relation that is not in the
vocabulary given, a node that is not in the node list, a fact that joins a node to itself, and
one that stands there already. `tolerance` decides whether the others are read without them.
"""

import array
import csv
import dataclasses
import gzip
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.knowledge_graph import KnowledgeGraph, Relation, in_order, nodes_in_order
from biofm_jax.errors import UserError

PRIMEKG = ("relation", "x_id", "x_type", "x_name", "x_source",
           "y_id", "y_type", "y_name", "y_source")  # fmt: skip
TRIPLES = ("head", "relation", "tail")


@dataclasses.dataclass
class Builder:
    """Collects the facts of one file.

    Attributes:
        path: the file, for messages.
        vocabulary: the relations that may occur; None: any.
        known: the nodes, id -> (type, name), where the format lists them; None: as they come.
        mirrored: the file states every fact in both directions; they are one fact, between types
            from the first in the alphabet to the second.
        directed: the relations within one type that have a direction (all others have none), by
            name; None: all have one.
    """

    path: Path
    vocabulary: Collection[str] | None = None
    known: dict[str, tuple[str, str]] | None = None
    mirrored: bool = False
    directed: Collection[str] | None = ()

    def __post_init__(self):
        self.bad = BadRecords(str(self.path))
        self._nodes = dict(self.known or {})
        self._number = {name: i for i, name in enumerate(self._nodes)}
        self._relations: dict[tuple[str, str, str], int] = {}
        self._cells, self._lines = array.array("i"), array.array("q")

    def node(self, name: str, kind: str, label: str) -> None:
        """Name a node as it occurs.

        Raises:
            BadText: it has another type elsewhere.
        """
        first = self._nodes.setdefault(name, (kind, label))
        if first[0] != kind:
            raise BadText(f"node {name} is a {kind} here and a {first[0]} before", "rename one")
        self._number.setdefault(name, len(self._number))

    def fact(self, line: int, head: str, relation: str, tail: str) -> None:
        """Take a fact between named nodes.

        Raises:
            BadText: a relation outside the vocabulary, or a node that is not there.
        """
        if self.vocabulary is not None and relation not in self.vocabulary:
            raise BadText(f"unseen relation type {relation!r}", "add it to the vocabulary")
        for name in (head, tail):
            if name not in self._nodes:
                raise BadText(f"node {name!r} is not in the list of nodes", "add it to the list")
        kinds = self._nodes[head][0], self._nodes[tail][0]
        if self.mirrored and kinds[0] > kinds[1]:
            head, tail, kinds = tail, head, kinds[::-1]
        number = self._relations.setdefault((relation, *kinds), len(self._relations))
        self._cells.extend((self._number[head], number, self._number[tail]))
        self._lines.append(line)

    def graph(self, source: str, tolerance: float) -> KnowledgeGraph:
        """The graph of the facts taken.

        Args:
            source: as of `KnowledgeGraph`.
            tolerance: share of bad lines, 0 to 1, with which it is made from the others.

        Raises:
            UserError: more bad lines than that, or no good one.
        """
        ids, names, types, kinds = nodes_in_order(
            (kind, name, label) for name, (kind, label) in self._nodes.items()
        )
        place = {name: i for i, name in enumerate(ids)}
        node = np.array([place[name] for name in self._number], np.int32)
        found = sorted(self._relations)
        relations = tuple(
            Relation(name, head, tail, head == tail and self._symmetric(name))
            for name, head, tail in found
        )
        renumber = {key: i for i, key in enumerate(found)}
        kind = np.array([renumber[key] for key in self._relations], np.int32)
        raw = np.array(self._cells, np.int32).reshape(-1, 3)
        triples = np.stack([node[raw[:, 0]], kind[raw[:, 1]], node[raw[:, 2]]], axis=1)
        both = np.array([relation.symmetric for relation in relations], bool)
        turn = both[triples[:, 1]] & (triples[:, 0] > triples[:, 2])
        triples[turn] = triples[turn][:, ::-1]
        self._repeats(triples, turn, relations, ids)
        self.bad.records.sort(key=lambda record: record.line)
        unique = in_order(triples)
        self.bad.check(len(unique), tolerance, None)
        return KnowledgeGraph(ids, names, types, kinds, relations, unique, source)

    def _symmetric(self, name: str) -> bool:
        return self.directed is not None and name not in self.directed

    def _repeats(self, triples, turned, relations, ids) -> None:
        """Name the facts that stand there already; a mirrored file's second statement is none."""
        if not len(triples):
            return
        _, first, group = np.unique(triples, axis=0, return_index=True, return_inverse=True)
        lines = np.array(self._lines)
        allowed = 2 if self.mirrored else 1
        order = np.argsort(group, kind="stable")
        rank = np.empty(len(order), np.int64)
        starts = np.cumsum(np.bincount(group)) - np.bincount(group)
        rank[order] = np.arange(len(order)) - starts[group[order]]
        for at in np.flatnonzero(rank >= allowed):
            head, relation, tail = triples[at]
            what = f"{ids[head]} {relations[relation].name} {ids[tail]}"
            before = int(lines[first[group[at]]])
            backwards = " backwards" if turned[at] != turned[first[group[at]]] else ""
            reason = f"duplicated edge: {what} stands{backwards} in line {before}"
            self.bad.add(int(lines[at]), reason, "remove the line")


def read_hetionet(
    nodes: Path,
    edges: Path,
    *,
    vocabulary: Collection[str] | None = None,
    tolerance: float = 0.0,
    source: str = "Hetionet (Himmelstein et al. 2017, eLife 6:e26726); mixed licences, part NC",
) -> tuple[KnowledgeGraph, BadRecords]:
    """Hetionet's node table and edges in SIF, plain or gzipped.

    Args:
        nodes: TSV with columns id, name, kind.
        edges: TSV with columns source, metaedge, target; a metaedge within one type has a
            direction if its abbreviation has ">" ("Gr>G").
        vocabulary: metaedges that may occur; None: any.
        tolerance: share of bad lines to go on with.
        source: written into the graph.

    Returns:
        The graph and the bad lines of the edges.

    Raises:
        UserError: a file or column is missing, a node is listed twice, more bad lines than
            tolerated.
    """
    known: dict[str, tuple[str, str]] = {}
    for line, (name, label, kind) in _rows(nodes, ("id", "name", "kind"), "\t"):
        if name in known:
            raise UserError(f"{nodes}, line {line}: node {name} is listed twice; remove one")
        known[name] = (kind, label)
    directed = _Arrows()
    builder = Builder(edges, vocabulary, known, directed=directed)
    for line, row in _rows(edges, ("source", "metaedge", "target"), "\t", builder.bad):
        _take(builder, line, row[0], row[1], row[2])
    return builder.graph(source, tolerance), builder.bad


def read_primekg(
    path: Path,
    *,
    vocabulary: Collection[str] | None = None,
    tolerance: float = 0.0,
    source: str = "PrimeKG (Chandak et al. 2023, Sci Data 10:67); terms of its sources",
) -> tuple[KnowledgeGraph, BadRecords]:
    """PrimeKG's `kg.csv`, which states every fact in both directions: each is kept once.

    A node is named `type::source:id`. Arguments, results and errors as `read_hetionet`.
    """
    builder = Builder(path, vocabulary, mirrored=True)
    for line, row in _rows(path, PRIMEKG, ",", builder.bad):
        relation, *cells = row
        ends = []
        for number, kind, label, origin in (cells[:4], cells[4:]):
            ends.append((f"{kind}::{origin}:{number}", kind, label))
        _take(builder, line, ends[0][0], relation, ends[1][0], ends)
    return builder.graph(source, tolerance), builder.bad


def read_drkg(
    path: Path,
    *,
    vocabulary: Collection[str] | None = None,
    tolerance: float = 0.0,
    source: str = "DRKG (Ioannidis et al. 2020); terms of its sources",
) -> tuple[KnowledgeGraph, BadRecords]:
    """DRKG's `drkg.tsv`: head, relation, tail without a header, nodes named `Type::id`.

    The published file has self loops, its first line among them, so a tolerance is needed.
    Every relation has a direction. Arguments, results and errors as `read_hetionet`.
    """
    builder = Builder(path, vocabulary, directed=None)
    for line, row in _rows(path, None, "\t", builder.bad, width=3):
        ends = [(name, name.partition("::")[0], name) for name in (row[0], row[2])]
        bare = next((name for name, *_ in ends if "::" not in name), None)
        if bare is not None:
            builder.bad.add(line, f"node {bare!r} has no type", "write Type::id")
            continue
        _take(builder, line, row[0], row[1], row[2], ends)
    return builder.graph(source, tolerance), builder.bad


def read_triples(
    path: Path,
    *,
    vocabulary: Collection[str] | None = None,
    tolerance: float = 0.0,
    source: str = "",
) -> tuple[KnowledgeGraph, BadRecords]:
    """A TSV or (with a name in .csv or .csv.gz) CSV with columns head, relation, tail.

    A node `Type::id` has that type, any other the type "node". Every relation has a direction.
    Arguments, results and errors as `read_hetionet`.
    """
    comma = ".csv" in path.suffixes
    builder = Builder(path, vocabulary, directed=None)
    for line, row in _rows(path, TRIPLES, "," if comma else "\t", builder.bad):
        ends = []
        for name in (row[0], row[2]):
            kind, colons, _ = name.partition("::")
            ends.append((name, kind if colons else "node", name))
        _take(builder, line, row[0], row[1], row[2], ends)
    return builder.graph(source or str(path.name), tolerance), builder.bad


class _Arrows:
    """The relations whose name has an arrow."""

    def __contains__(self, name: str) -> bool:
        return ">" in name or "<" in name


def _take(builder: Builder, line: int, head: str, relation: str, tail: str, ends=()) -> None:
    try:
        if not (head and relation and tail):
            raise BadText("an empty field", "give head, relation and tail")
        if head == tail:
            raise BadText(f"self loop of {head} by {relation}", "remove the line")
        if builder.vocabulary is None or relation in builder.vocabulary:
            for name, kind, label in ends:
                builder.node(name, kind, label)
        builder.fact(line, head, relation, tail)
    except BadText as error:
        builder.bad.add(line, error.reason, error.fix)


def _rows(
    path: Path,
    columns: tuple[str, ...] | None,
    delimiter: str,
    bad: BadRecords | None = None,
    width: int = 0,
) -> Iterator[tuple[int, list[str]]]:
    """(line, wanted cells) of a table; short lines are named in `bad`, or stop the reading."""
    opened = gzip.open if path.suffix == ".gz" else open
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as lines:
            reader = csv.reader(lines, delimiter=delimiter, quoting=quoting)
            places = list(range(width))
            if columns is not None:
                header = next(reader, [])
                missing = [name for name in columns if name not in header]
                if missing:
                    raise UserError(f"{path}: no column {missing[0]!r} among {', '.join(header)}")
                places = [header.index(name) for name in columns]
            for row in reader:
                if len(row) > max(places):
                    yield reader.line_num, [row[place].strip() for place in places]
                    continue
                reason = f"{len(row)} fields, where {max(places) + 1} are wanted"
                if bad is None:
                    raise UserError(f"{path}, line {reader.line_num}: {reason}")
                bad.add(reader.line_num, reason, "complete the line")
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
