"""The relational layer and PyTorch Geometric's RGCNConv with the same weights."""

import jax
import numpy as np
import pytest
from toy_graph import toy_graph

from biofm_jax.data.neighbours import Neighbours
from biofm_jax.models.relational import RelationalSpec, relational_layer

torch = pytest.importorskip("torch", reason="pip install 'biofm_jax[parity]'")
geometric = pytest.importorskip("torch_geometric.nn", reason="pip install 'biofm_jax[parity]'")

GRAPH = toy_graph()
R = len(GRAPH.relations)


def reference(layer, states):
    head, relation, tail = GRAPH.triples.T.astype(np.int64)
    both = np.array([r.symmetric for r in GRAPH.relations])[relation]
    # Messages run from the source to the target: a head hears of its tails by r.
    edges = np.stack([np.append(tail, head), np.append(head, tail)])
    kinds = np.append(relation, np.where(both, relation, relation + R))
    width = states.shape[1]
    conv = geometric.RGCNConv(width, width, 2 * R, num_bases=len(layer["bases"]), aggr="mean")
    with torch.no_grad():
        for ours, theirs in (
            ("bases", conv.weight),
            ("mix", conv.comp),
            ("root", conv.root),
            ("bias", conv.bias),
        ):
            theirs.copy_(torch.tensor(layer[ours]))
    x = torch.tensor(states, requires_grad=True)
    out = conv(x, torch.tensor(edges), torch.tensor(kinds))
    out.square().sum().backward()
    grads = {"bases": conv.weight, "mix": conv.comp, "root": conv.root, "bias": conv.bias}
    return out.detach().numpy(), {name: p.grad.numpy() for name, p in grads.items()}, x.grad.numpy()


def test_states_and_gradients_are_those_of_rgcnconv():
    spec = RelationalSpec(nodes=len(GRAPH.ids), relations=R, width=16, bases=4)
    params = jax.device_get(spec.build().init(jax.random.key(1)))
    layer, states = params["layer_0"], params["nodes"]
    layer["bias"] = np.random.default_rng(0).normal(size=16).astype(np.float32)
    nodes = np.arange(len(states))
    near, relation = Neighbours(GRAPH).sample(nodes, 200, np.random.default_rng(0))

    def ours(layer, states):
        out = relational_layer(layer, states, states[near], relation)
        return (out**2).sum(), out

    (_, out), grads = jax.value_and_grad(ours, argnums=(0, 1), has_aux=True)(layer, states)
    wanted, wanted_grads, wanted_states = reference(layer, states)

    def error(a, b):
        return np.abs(a - b).max() / np.abs(b).max()

    assert error(out, wanted) < 1e-5
    assert error(grads[1], wanted_states) < 1e-4
    for name, value in wanted_grads.items():
        assert error(grads[0][name], value) < 1e-4, name
