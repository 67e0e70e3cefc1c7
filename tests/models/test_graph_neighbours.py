"""Sums over neighbours: gathers against products with adjacency matrices and scatters by edge."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_graphs import BONDS, packed_graphs, toy_graph, toy_graphs

from biofm_jax.data.graphs import GraphExample
from biofm_jax.models.graph_neighbours import (
    UNROLLED,
    kind_counts,
    kind_table,
    neighbour_sum,
    rectified_sum,
    sorted_neighbours,
)


def star(rays: int) -> GraphExample:
    """An atom in the middle of others: as many neighbours as there are."""
    bonds = np.array([(0, i) for i in range(1, rays + 1)])
    edges = np.stack([bonds, bonds[:, ::-1]], 1).reshape(-1, 2).astype(np.uint16)
    kinds = 1 + np.arange(rays)[:, None] % np.array(BONDS)
    like = toy_graph(rays + 1, np.random.default_rng(0))
    return GraphExample(like.ids, like.features, edges, np.repeat(kinds, 2, 0).astype(np.uint8))


def graph_of(examples):
    """Their batch's graph with one bond deleted, as MolCLR deletes bonds."""
    (batch,) = packed_graphs(examples)
    bonds = np.array(batch.graph.bonds)
    bonds[0, 2:4] = 0
    return dataclasses.replace(batch.graph, bonds=bonds)


@pytest.fixture(scope="module", params=["few", "many"])
def case(request):
    """The graph, hidden states (b, t, d), vectors of the bonds' features, a gradient."""
    examples = toy_graphs(9) + ([star(UNROLLED + 3)] if request.param == "many" else [])
    graph = graph_of([g for g in examples if len(g) > 1])
    rng = np.random.default_rng(0)
    shapes = (*graph.features.shape[:2], 5), (sum(BONDS), 5), (*graph.features.shape[:2], 5)
    return graph, *(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def by_edge(graph, x, table, rectified: bool):
    """The slow form: one message by edge, added up at the receivers."""
    exists = (graph.bonds[:, :, 0] > 0)[:, :, None]
    vectors = table[graph.bonds[:, :, 0] - 1] + table[BONDS[0] + graph.bonds[:, :, 1] - 1]

    def of_row(x, edges, vectors, exists):
        messages = x[edges[:, 0]] + vectors
        messages = jax.nn.relu(messages) if rectified else messages
        return jnp.zeros_like(x).at[edges[:, 1]].add(jnp.where(exists, messages, 0))

    return jax.vmap(of_row)(x, graph.edges, vectors, exists)


@pytest.mark.parametrize("rectified", [False, True])
def test_values_and_gradients_are_those_of_scatters(case, rectified):
    graph, x, table, weights = case

    def fast(x, table):
        near = sorted_neighbours(graph, x.shape[1], BONDS, x.dtype)
        if rectified:
            return rectified_sum(x, kind_table(table, BONDS), near)
        return neighbour_sum(x, near) + kind_counts(near, BONDS, x.dtype) @ table

    def both(function):
        def weighted(x, table):
            y = function(x, table)
            return (weights * y).sum(), y

        run = jax.value_and_grad(weighted, (0, 1), has_aux=True)
        return jax.jit(run, compiler_options=FAST_COMPILE)(x, table)

    slow = both(lambda x, table: by_edge(graph, x, table, rectified))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), both(fast), slow)


def test_a_product_with_the_adjacency_matrix_is_the_same_sum(case, monkeypatch):
    graph, x, *_ = case
    near = sorted_neighbours(graph, x.shape[1], BONDS, x.dtype)
    assert near.adjacency is None
    monkeypatch.setattr("biofm_jax.models.graph_neighbours.platform", lambda: "tpu")
    dense = sorted_neighbours(graph, x.shape[1], BONDS, x.dtype)
    np.testing.assert_allclose(neighbour_sum(x, dense), neighbour_sum(x, near), atol=1e-5)
    np.testing.assert_array_equal(dense.adjacency.sum(-1), near.degree)
