"""GROVER's objectives: which atoms are chosen, what their contexts are, and the loss."""

import dataclasses
import math
import types

import jax
import numpy as np
import pytest
from toy_graphs import VOCABULARY, packed_graphs, toy_graphs

from biofm_jax.data.graphs import GraphExample
from biofm_jax.errors import UserError
from biofm_jax.objectives.grover import ContextMotif, choose, contexts

GRAPHS = toy_graphs(8)
CLASSES = 1 << 20


def by_record(batch, values) -> dict[int, np.ndarray]:
    """record -> the values of its atoms."""
    values, found = np.asarray(values), {}
    for row, slot in np.argwhere(batch.examples >= 0):
        atoms = batch.segment_ids[row] == slot + 1
        found[int(batch.examples[row, slot])] = values[row, atoms]
    return found


def test_the_class_of_an_atom_is_that_of_its_neighbourhood():
    (batch,) = packed_graphs(GRAPHS)
    found, seen = by_record(batch, contexts(batch, CLASSES)), {}
    for number, graph in enumerate(GRAPHS):
        around = [[] for _ in graph.ids]
        for (sender, receiver), bond in zip(graph.edges, graph.bonds):
            around[receiver].append((int(graph.ids[sender]), int(bond[0])))
        for atom, others in enumerate(around):
            name = (int(graph.ids[atom]), *sorted(others))
            assert seen.setdefault(name, found[number][atom]) == found[number][atom]
    assert len(set(seen.values())) == len(seen) > 10


def test_the_class_does_not_depend_on_the_order_of_atoms():
    graph = max(GRAPHS, key=len)
    order = np.random.default_rng(0).permutation(len(graph))
    place = np.argsort(order).astype(np.uint16)
    moved = GraphExample(graph.ids[order], graph.features[order], place[graph.edges], graph.bonds)
    (batch,) = packed_graphs([graph, moved])
    found = by_record(batch, contexts(batch, CLASSES))
    np.testing.assert_array_equal(found[1], found[0][order])


def chosen_atoms(spec, batch, key) -> dict[int, np.ndarray]:
    """record -> which of its atoms are chosen."""
    made = choose(spec, VOCABULARY.mask, batch, key)
    flags = np.zeros(batch.tokens.shape, bool)
    rows = np.arange(len(flags))[:, None]
    np.logical_or.at(flags, (rows, made.predict), np.asarray(made.weights) > 0)
    hidden = np.asarray(made.tokens) == VOCABULARY.mask
    np.testing.assert_array_equal(hidden, flags if spec.mask else np.zeros_like(flags))
    return by_record(batch, flags)


@pytest.mark.parametrize("mask", [1.0, 0.0])
def test_so_many_atoms_of_each_molecule_are_chosen_wherever_it_stands(mask):
    spec, key = ContextMotif(rate=0.3, mask=mask), jax.random.key(1)
    (packed,), alone = packed_graphs(GRAPHS), packed_graphs(GRAPHS, 4, 16, 1)
    together = chosen_atoms(spec, packed, key)
    apart = {k: v for batch in alone for k, v in chosen_atoms(spec, batch, key).items()}
    for number, graph in enumerate(GRAPHS):
        assert together[number].sum() == math.ceil(0.3 * len(graph) - 1e-3)
        np.testing.assert_array_equal(together[number], apart[number])
    other = chosen_atoms(spec, packed, jax.random.key(2))
    assert any((other[i] != together[i]).any() for i in together)


def test_the_loss_is_that_of_each_chosen_atom_and_of_its_molecule():
    (batch,) = packed_graphs(GRAPHS)
    rng, (rows, slots) = np.random.default_rng(0), batch.examples.shape
    motifs = rng.integers(0, 2, (rows, slots, 5)).astype(np.float32)
    batch = batch.replace(targets=motifs, weights=np.ones_like(motifs))
    scores = rng.normal(size=(rows, 16, 7)).astype(np.float32)
    of_molecules = rng.normal(size=(rows, slots, 5)).astype(np.float32)

    def apply(params, batch, rngs):
        logits = np.take_along_axis(scores, np.asarray(batch.predict)[:, :, None], 1)
        return types.SimpleNamespace(logits=logits, pooled_logits=of_molecules)

    spec, key = ContextMotif(rate=0.4, motif=0.5), jax.random.key(3)
    found = spec.build(VOCABULARY).loss(apply, {}, {}, batch, key)
    flags = chosen_atoms(spec, batch, jax.random.split(key)[0])
    classes, total, count = by_record(batch, contexts(batch, 7)), 0.0, 0
    logits = by_record(batch, scores)
    for row, slot in np.argwhere(batch.examples >= 0):
        number = int(batch.examples[row, slot])
        said = logits[number] - np.log(np.exp(logits[number]).sum(1, keepdims=True))
        nats = -said[np.arange(len(said)), classes[number]]
        x, y = of_molecules[row, slot], motifs[row, slot]
        wrong = np.mean(np.log1p(np.exp(x)) - x * y)
        total += (nats + 0.5 * wrong)[flags[number]].sum()
        count += flags[number].sum()
    assert float(found.weight) == count
    np.testing.assert_allclose(float(found.total), total, rtol=1e-5)


def test_what_does_not_fit_is_named():
    for change in ({"rate": 0.0}, {"mask": 1.5}, {"motif": -1.0}):
        with pytest.raises(UserError, match=f"objective.{next(iter(change))}"):
            ContextMotif(**change).build(VOCABULARY)
    with pytest.raises(UserError, match="mask token"):
        ContextMotif().build(dataclasses.replace(VOCABULARY, mask=-1))
