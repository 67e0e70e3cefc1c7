"""Packed graphs against the plain way: each molecule alone, shifted to where it lies."""

import numpy as np
import pytest
from toy_graphs import VOCABULARY, toy_graph

from biofm_jax.data.graphs import EDGES_PER_ATOM, GraphExample, GraphStore, open_graphs
from biofm_jax.data.in_memory import example_batches, pack_examples


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    return [toy_graph(int(size), rng) for size in [1, 2, 16, *rng.integers(1, 12, 60)]]


def graphs_of(batch) -> dict[int, tuple]:
    """record -> its (ids, features, edges, bonds), cut out of a batch."""
    found = {}
    exists = batch.graph.bonds[:, :, 0] > 0
    assert (batch.graph.edges[~exists] == 0).all() and (batch.graph.bonds[~exists] == 0).all()
    assert (batch.graph.features[batch.segment_ids == 0] == 0).all()
    for row, slot in np.argwhere(batch.examples >= 0):
        atoms = np.flatnonzero(batch.segment_ids[row] == slot + 1)
        own = exists[row] & np.isin(batch.graph.edges[row, :, 1], atoms)
        found[int(batch.examples[row, slot])] = (
            batch.tokens[row, atoms],
            batch.graph.features[row, atoms],
            batch.graph.edges[row, own] - atoms[0],
            batch.graph.bonds[row, own],
        )
    return found


def test_a_packed_graph_is_the_graph(examples):
    rows = {"max_tokens": 16, "segments": 4, "batch_size": 3}
    packed = pack_examples(examples, VOCABULARY, **rows)
    found = {}
    for batch in packed.batches:
        assert batch.graph.edges.shape == (3, 16 * EDGES_PER_ATOM, 2)
        assert {x.dtype for x in (batch.graph.features, batch.graph.edges)} == {np.dtype("int32")}
        found |= graphs_of(batch)
    assert sorted(found) == list(range(len(examples)))
    assert any((batch.segment_ids.max(1) > 1).any() for batch in packed.batches)
    for number, example in enumerate(examples):
        for name, part in zip(("ids", "features", "edges", "bonds"), found[number], strict=True):
            np.testing.assert_array_equal(part, getattr(example, name), err_msg=name)


def test_labels_go_with_the_graphs(examples):
    labels = np.arange(len(examples), dtype=np.float32)[:, None]
    batch = next(
        example_batches(
            examples, VOCABULARY, max_tokens=16, segments=4, batch_size=3, seed=0, labels=labels
        )
    )
    there = batch.examples >= 0
    np.testing.assert_array_equal(batch.targets[there][:, 0], batch.examples[there])
    assert graphs_of(batch)


def test_the_stored_graphs_are_those_in_memory(examples, tmp_path):
    memory = GraphStore.from_examples(examples, VOCABULARY)
    calls = []

    def chunks():
        calls.append(1)
        for start in range(0, len(examples), 10):
            part = examples[start : start + 10]
            yield [(f"text {start + i}", example) for i, example in enumerate(part)]

    for _ in range(2):
        stored = open_graphs(
            tmp_path, "one", VOCABULARY, chunks, lambda records: [], lambda: {"note": 1}
        )
    assert calls == [1]
    assert isinstance(stored.edges, np.memmap) and stored.edges.dtype == np.uint16
    for name in ("ids", "offsets", "features", "edges", "bonds", "edge_offsets"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(memory, name), err_msg=name)
    assert len(set(stored.hashes)) == len(examples)


def test_what_does_not_fit_is_refused(examples):
    with pytest.raises(ValueError, match="16 atoms in rows of 8"):
        pack_examples(examples, VOCABULARY, max_tokens=8, segments=4, batch_size=3)
    full = np.argwhere(~np.eye(5, dtype=bool))
    zeros = np.zeros((5, 2), np.uint8)
    with pytest.raises(ValueError, match="20 edges of 5 atoms"):
        GraphExample(zeros[:, 0], zeros, full, np.ones((20, 2), np.uint8))
