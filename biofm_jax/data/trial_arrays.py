"""One trial's molecules and sentences as rows of fixed shape."""

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from biofm_jax.data.batch import Batch, Graph
from biofm_jax.data.criteria import Criteria, HashedWords
from biofm_jax.data.graphs import EDGES_PER_ATOM, GraphExample
from biofm_jax.data.molecule_graph import (
    ATOM_FEATURES,
    BOND_FEATURES,
    AtomTokenizer,
    molecule_graph,
)


def spread(values: Sequence, count: int) -> list:
    """All values, or `count` of them at equal distances."""
    if len(values) <= count:
        return list(values)
    return [values[place] for place in np.linspace(0, len(values) - 1, count).round().astype(int)]


@functools.lru_cache(maxsize=100_000)
def _graph(smiles: str) -> GraphExample:
    return molecule_graph(smiles)


def molecule_row(smiles: Sequence[str], atoms: int, molecules: int) -> tuple[Batch, int]:
    """The molecules of a trial, packed.

    Args:
        smiles: that rdkit accepts.
        atoms: t, of the row.
        molecules: s, most of them.

    Returns:
        A batch without its leading axis: tokens, segment_ids, positions (t,), examples (s,), the
        molecule's number among `smiles`, and the graph; and how many molecules did not fit.
    """
    pad = AtomTokenizer().vocabulary.pad
    tokens, segments, positions = np.full(atoms, pad, np.int32), *np.zeros((2, atoms), np.int32)
    features = np.zeros((atoms, len(ATOM_FEATURES)), np.int32)
    edges = np.zeros((EDGES_PER_ATOM * atoms, 2), np.int32)
    bonds = np.zeros((EDGES_PER_ATOM * atoms, len(BOND_FEATURES)), np.int32)
    examples, at, edge, slot = np.full(molecules, -1, np.int32), 0, 0, 0
    for number, text in enumerate(smiles):
        graph = _graph(text)
        if slot == molecules or at + len(graph) > atoms:
            continue
        here, there = slice(at, at + len(graph)), slice(edge, edge + len(graph.edges))
        tokens[here], segments[here] = graph.ids, slot + 1
        positions[here], features[here] = np.arange(len(graph)), graph.features
        edges[there], bonds[there] = graph.edges.astype(np.int32) + at, graph.bonds
        examples[slot] = number
        at, edge, slot = at + len(graph), edge + len(graph.edges), slot + 1
    batch = Batch(tokens, segments, positions, examples, graph=Graph(features, edges, bonds))
    return batch, len(smiles) - slot


def sentence_row(
    criteria: Criteria, words: HashedWords, tokens: int, sentence: int, segments: int
) -> tuple[Batch, np.ndarray, int]:
    """The sentences of a trial, packed: inclusion, then exclusion.

    Where not all fit, inclusion and exclusion have shares of the row in proportion to their
    number of sentences, and each keeps its first ones.

    Args:
        criteria: of the trial.
        words: the tokenizer.
        tokens: t, of the row.
        sentence: most tokens of one; a longer one loses its end.
        segments: s, most sentences.

    Returns:
        A batch without its leading axis: tokens, segment_ids, positions (t,), examples (s,), the
        sentence's number among inclusion and then exclusion; the (s,) sides, as of `TrialBatch`;
        and how many sentences did not fit.
    """
    vocabulary = words.vocabulary
    parts = [
        _sentences(words, texts, sentence) for texts in (criteria.inclusion, criteria.exclusion)
    ]
    kept = fitting([[len(ids) for ids in part] for part in parts], tokens, segments)
    row, segment = np.full(tokens, vocabulary.pad, np.int32), np.zeros(tokens, np.int32)
    positions, examples = np.zeros(tokens, np.int32), np.full(segments, -1, np.int32)
    sides, at, slot = np.zeros(segments, np.int32), 0, 0
    for side, (part, count) in enumerate(zip(parts, kept), 1):
        first = 0 if side == 1 else len(parts[0])
        for number, ids in enumerate(part[:count], first):
            here = slice(at, at + len(ids))
            row[here], segment[here], positions[here] = ids, slot + 1, np.arange(len(ids))
            examples[slot], sides[slot] = number, side
            at, slot = at + len(ids), slot + 1
    return Batch(row, segment, positions, examples), sides, sum(map(len, parts)) - sum(kept)


def fitting(lengths: Sequence[Sequence[int]], tokens: int, segments: int) -> list[int]:
    """How many first sentences of each side fit, taken from both in proportion to their number."""
    kept, used = [0] * len(lengths), 0
    while True:
        # The side that is furthest behind its share comes next.
        open_ = [i for i, part in enumerate(lengths) if kept[i] < len(part)]
        open_.sort(key=lambda i: (kept[i] + 1) / len(lengths[i]))
        if not open_ or sum(kept) == segments:
            return kept
        if used + lengths[open_[0]][kept[open_[0]]] > tokens:
            return kept
        used += lengths[open_[0]][kept[open_[0]]]
        kept[open_[0]] += 1


def _sentences(words: HashedWords, texts: Sequence[str], most: int) -> list[np.ndarray]:
    if not texts:
        return []
    flat, offsets = words.encode_many(list(texts))
    found = []
    for start, stop in itertools.pairwise(offsets):
        ids = flat[start:stop].astype(np.int32)
        found.append(ids if len(ids) <= most else np.append(ids[: most - 1], ids[-1]))
    return found
