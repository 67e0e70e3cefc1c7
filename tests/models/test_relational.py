import jax
import numpy as np
import pytest
from toy_graph import toy_graph

from biofm_jax.data.links import LinkData
from biofm_jax.data.neighbours import Neighbours
from biofm_jax.errors import UserError
from biofm_jax.models.relational import RelationalSpec, relational_layer

GRAPH = toy_graph()
R = len(GRAPH.relations)
SPEC = RelationalSpec(nodes=len(GRAPH.ids), relations=R, width=8, bases=3)


@pytest.fixture(scope="module")
def params():
    return jax.device_get(SPEC.build().init(jax.random.key(0)))


def slow_layer(layer, states, graph):
    """The layer over all facts, one by one: equation 2 of Schlichtkrull et al. 2018."""
    by_node = {node: {} for node in range(len(states))}
    for head, relation, tail in graph.triples.tolist():
        back = relation if graph.relations[relation].symmetric else relation + R
        by_node[head].setdefault(relation, []).append(tail)
        by_node[tail].setdefault(back, []).append(head)
    out = states @ layer["root"] + layer["bias"]
    for node, kinds in by_node.items():
        for kind, others in kinds.items():
            matrix = np.tensordot(layer["mix"][kind], layer["bases"], 1)
            out[node] += states[others].mean(0) @ matrix
    return out


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def test_whole_neighbourhoods_give_the_layers_of_the_whole_graph(params):
    states = params["nodes"]
    first = leaky(slow_layer(params["layer_0"], states, GRAPH))
    wanted = slow_layer(params["layer_1"], first, GRAPH)
    nodes = np.arange(0, len(GRAPH.ids), 5)[:, None]
    around = Neighbours(GRAPH).around(nodes, (150, 150), np.random.default_rng(0))
    got = SPEC.build().apply(params, around).hidden
    np.testing.assert_allclose(got[:, 0], wanted[nodes[:, 0]], rtol=1e-4, atol=1e-5)


def test_a_node_without_neighbours_is_finite(params):
    layer = params["layer_0"]
    own, near = np.ones((2, 8), np.float32), np.full((2, 3, 8), 1e6, np.float32)
    out = relational_layer(layer, own, near, np.full((2, 3), -1))
    np.testing.assert_allclose(out, own @ layer["root"] + layer["bias"], rtol=1e-5)


def test_logits_are_distmult_of_the_states(params):
    batch = next(LinkData(near=4, far=4, negatives=2).batches(GRAPH, batch_size=5, seed=0))
    out = SPEC.build().apply(params, batch)
    h, w = np.asarray(out.hidden), params["relations"][batch.relation]
    wanted = [np.einsum("bd,bd,bd->b", h[:, 0], w, h[:, i]) for i in (1, 2, 3)]
    wanted += [np.einsum("bd,bd,bd->b", h[:, i], w, h[:, 1]) for i in (4, 5)]
    np.testing.assert_allclose(out.logits, np.stack(wanted, 1), rtol=1e-4, atol=1e-5)


def test_axes_fit_the_parameters(params):
    axes = SPEC.build().axes(params)
    jax.tree.map(lambda leaf, names: len(names) == leaf.ndim or pytest.fail(), params, axes)


def test_dropout_acts_in_training_alone(params):
    model = RelationalSpec(len(GRAPH.ids), R, 8, 3, dropout=0.5).build()
    batch = next(LinkData(near=4, far=4).batches(GRAPH, batch_size=5, seed=0))
    key = jax.random.key(0)
    plain, same = model.apply(params, batch), model.apply(params, batch, rngs=key)
    np.testing.assert_array_equal(plain.logits, same.logits)
    assert np.abs(model.apply(params, batch, rngs=key, train=True).logits - plain.logits).max() > 0


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="1 or more"):
        RelationalSpec(nodes=0, relations=3).build()
    with pytest.raises(UserError, match="dropout"):
        RelationalSpec(nodes=2, relations=3, dropout=1.0).build()
