"""Graphs of a whole data set in memory maps, and batches of packed graphs of fixed shape."""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import jax
import numpy as np

from biofm_jax.data.batch import Batch, Graph
from biofm_jax.data.pipeline import RowBuilder
from biofm_jax.data.token_store import TokenStore, npy_header, publish, text_hash
from biofm_jax.data.tokenizers import Vocabulary

FORMAT = 1  # raised when the layout of the files below changes

# Edges of a row are at most so many times its atoms. A graph alone keeps to the bound, so that
# every packed row does. A drug has 2.1 to 2.2 edges (two a bond) an atom; a cage of atoms of
# degree three (cubane, C60, P4) has 3.
EDGES_PER_ATOM = 3


@dataclasses.dataclass(frozen=True, eq=False)
class GraphExample:
    """One graph, of m edges: two a bond, side by side.

    Attributes:
        ids: (t,) id of each atom's type.
        features: (t, k) uint8 class of each feature of an atom.
        edges: (m, 2) uint16 sender and receiver, atoms from 0.
        bonds: (m, f) uint8 class of each feature of a bond, from 1.
    """

    ids: np.ndarray
    features: np.ndarray
    edges: np.ndarray
    bonds: np.ndarray

    def __post_init__(self):
        if len(self.edges) > EDGES_PER_ATOM * len(self.ids):
            raise ValueError(
                f"{len(self.edges)} edges of {len(self.ids)} atoms: at most {EDGES_PER_ATOM} "
                "times as many fit into a batch"
            )

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class GraphStore(TokenStore):
    """The graphs of a data set; the ids of `TokenStore` are their atoms.

    Attributes:
        features: (n, k) uint8, beside `ids`.
        edges: (m, 2) uint16 of all graphs one behind the other, atoms counted within a graph.
        bonds: (m, f) uint8, beside `edges`.
        edge_offsets: (records + 1,) int64, where each graph starts in `edges`.
    """

    features: np.ndarray
    edges: np.ndarray
    bonds: np.ndarray
    edge_offsets: np.ndarray

    @classmethod
    def from_examples(
        cls, examples: Sequence[GraphExample], vocabulary: Vocabulary
    ) -> "GraphStore":
        """A store in memory; the name of a record is its number.

        Args:
            examples: at least one.
            vocabulary: of the atoms' types.
        """
        tokens = TokenStore.from_arrays([example.ids for example in examples], vocabulary)
        fields = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens)}
        edges = np.fromiter((len(example.edges) for example in examples), np.int64, len(examples))
        return cls(
            **fields,
            features=np.concatenate([example.features for example in examples]),
            edges=np.concatenate([example.edges for example in examples]),
            bonds=np.concatenate([example.bonds for example in examples]),
            edge_offsets=np.concatenate([[0], np.cumsum(edges)]),
        )


@dataclasses.dataclass(frozen=True)
class GraphRows(RowBuilder):
    """Builds batches with the field `graph` from a `GraphStore`.

    Raises:
        ValueError: a graph that is longer than a row; it cannot be cut as a sequence can.
    """

    store: GraphStore

    def __post_init__(self):
        longest = int(self.store.lengths().max(initial=0))
        if longest > self.max_tokens:
            raise ValueError(f"a graph of {longest} atoms in rows of {self.max_tokens}")

    def _view(self, sequence, visits, placement, columns, examples, salt) -> Batch:
        batch = super()._view(sequence, visits, placement, columns, examples, salt)
        store, shape = self.store, (self.batch_size, self.max_tokens)
        starts, rows = store.offsets[sequence], placement[:, 0]
        counts = store.offsets[sequence + 1] - starts
        atoms, within = _spans(starts, counts)
        features = np.zeros((shape[0] * shape[1], store.features.shape[1]), np.int32)
        features[np.repeat(rows * shape[1] + columns, counts) + within] = store.features[atoms]

        starts = store.edge_offsets[sequence]
        counts = store.edge_offsets[sequence + 1] - starts
        stored, within = _spans(starts, counts)
        before = np.cumsum(counts) - counts
        # Rows come in order: where the first graph of a row starts, its edges do.
        column = before - before[np.searchsorted(rows, rows)]
        most = EDGES_PER_ATOM * shape[1]
        target = np.repeat(rows * most + column, counts) + within
        edges = np.zeros((shape[0] * most, 2), np.int32)
        bonds = np.zeros((shape[0] * most, store.bonds.shape[1]), np.int32)
        edges[target] = store.edges[stored] + np.repeat(columns, counts)[:, None]
        bonds[target] = store.bonds[stored]
        graph = Graph(
            features.reshape(*shape, -1),
            edges.reshape(shape[0], most, 2),
            bonds.reshape(shape[0], most, -1),
        )
        return batch.replace(graph=graph)


def graph_shapes(rows: int, tokens: int, features: int, bonds: int) -> Graph:
    """The shapes of a batch's graph, without its data.

    Args:
        rows: rows of the batch, b.
        tokens: atoms of a row, t.
        features: of an atom, k.
        bonds: features of a bond, f.
    """
    sizes = ((tokens, features), (EDGES_PER_ATOM * tokens, 2), (EDGES_PER_ATOM * tokens, bonds))
    return Graph(*(jax.ShapeDtypeStruct((rows, *size), "int32") for size in sizes))


def open_graphs(
    folder: Path,
    fingerprint: str,
    vocabulary: Vocabulary,
    chunks: Callable[[], Iterable[list[tuple[str, GraphExample]]]],
    names: Callable[[Sequence[int]], list[str]],
    notes: Callable[[], dict],
) -> GraphStore:
    """The graph store cached in a prepared data set, made on the first call.

    Args:
        folder: the prepared data set; the store becomes a folder inside.
        fingerprint: of the features, part of the store's name.
        vocabulary: of the atoms' types.
        chunks: lists of records, each a text and its graph; called if the store is absent.
        names: ids of records by number.
        notes: what `store.json` records beside the layout; called behind the chunks.
    """
    place = folder / f"graphs-{FORMAT}-{fingerprint}"
    if not place.is_dir():
        _write(place, chunks(), notes)
    return GraphStore(
        ids=np.load(place / "ids.npy", mmap_mode="r"),
        offsets=np.load(place / "offsets.npy"),
        hashes=np.load(place / "hashes.npy"),
        views=1,
        vocabulary=vocabulary,
        names=names,
        features=np.load(place / "features.npy", mmap_mode="r"),
        edges=np.load(place / "edges.npy", mmap_mode="r"),
        bonds=np.load(place / "bonds.npy", mmap_mode="r"),
        edge_offsets=np.load(place / "edge_offsets.npy"),
    )


def _spans(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all elements of some spans, and the number of each within its span."""
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + within, within


def _write(
    place: Path,
    chunks: Iterable[list[tuple[str, GraphExample]]],
    notes: Callable[[], dict],
) -> None:
    """Write the store beside `place` and rename it, so that it is whole or absent."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    atoms, edges, hashes = [0], [0], []
    try:
        with contextlib.ExitStack() as opened:
            files = {
                name: _Rows(opened.enter_context(open(temporary / f"{name}.npy", "wb")))
                for name in ("ids", "features", "edges", "bonds")
            }
            for chunk in chunks:
                examples = [example for _, example in chunk]
                for name, file in files.items():
                    file.add(np.concatenate([getattr(example, name) for example in examples]))
                atoms += [len(example.ids) for example in examples]
                edges += [len(example.edges) for example in examples]
                hashes += [text_hash(text) for text, _ in chunk]
            for file in files.values():
                file.end()
        np.save(temporary / "offsets.npy", np.cumsum(atoms))
        np.save(temporary / "edge_offsets.npy", np.cumsum(edges))
        np.save(temporary / "hashes.npy", np.array(hashes, np.uint64))
        (temporary / "store.json").write_text(json.dumps({"format": FORMAT, **notes()}))
        publish(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Rows:
    """A .npy file that rows are added to; its head is written again at the end."""

    def __init__(self, file: BinaryIO):
        self._file, self._count, self._like = file, 0, None

    def add(self, rows: np.ndarray) -> None:
        if self._like is None:
            self._like = rows[:0]
            npy_header(self._file, self._like.shape, rows.dtype)
        self._file.write(np.ascontiguousarray(rows, self._like.dtype).tobytes())
        self._count += len(rows)

    def end(self) -> None:
        self._file.seek(0)
        npy_header(self._file, (self._count, *self._like.shape[1:]), self._like.dtype)
