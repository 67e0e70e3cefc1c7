"""The graph network against torch_geometric's GINEConv with the same weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import FAST_COMPILE, parameters
from toy_graphs import BONDS, FEATURES, VOCABULARY, packed_graphs, toy_graphs

from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import ProjectionHead

torch = pytest.importorskip("torch")
geometric = pytest.importorskip("torch_geometric")

LAYERS, WIDTH = 5, 24
SPEC = GraphSpec(
    vocabulary=VOCABULARY.size,
    features=FEATURES,
    bonds=BONDS,
    layers=LAYERS,
    width=WIDTH,
    message="relu",
    head=ProjectionHead(16),
    init_std=0.3,
)
GRAPHS = toy_graphs(24, seed=5, sizes=(1, 16))


class Linear(geometric.nn.GINEConv):
    """MolCLR's message: no ReLU."""

    def message(self, x_j, edge_attr):
        """(m, d) messages of m edges."""
        return x_j + edge_attr


class Reference(torch.nn.Module):
    """An encoder of PyG's layers; in MolCLR an atom's own message is a loop with its own vector."""

    def __init__(self, message: str):
        super().__init__()
        nn, conv = torch.nn, Linear if message == "sum" else geometric.nn.GINEConv
        self.atoms = nn.Embedding(VOCABULARY.size, WIDTH)
        self.features = nn.ModuleList(nn.Embedding(n, WIDTH) for n in FEATURES)
        self.bonds = nn.ModuleList(
            nn.ModuleList(nn.Embedding(n, WIDTH) for n in BONDS) for _ in range(LAYERS)
        )
        self.own = nn.Parameter(torch.zeros(LAYERS, WIDTH), requires_grad=message == "sum")
        self.convs = nn.ModuleList(
            conv(
                nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)),
                eps=-1.0 if message == "sum" else 0.0,
            )
            for _ in range(LAYERS)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, eps=1e-5) for _ in range(LAYERS))
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 16))
        self.loops = message == "sum"

    def forward(self, data):
        x = self.atoms(data.x) + sum(e(data.f[:, i]) for i, e in enumerate(self.features))
        states = []
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            bonds = sum(e(data.edge_attr[:, i]) for i, e in enumerate(self.bonds[layer]))
            index = data.edge_index
            if self.loops:
                atoms = torch.arange(len(x))
                index = torch.cat([index, torch.stack([atoms, atoms])], 1)
                bonds = torch.cat([bonds, self.own[layer].expand(len(x), -1)])
            x = norm(conv(x, index, bonds))
            states.append(x)
            x = x if layer == LAYERS - 1 else x.relu()
        pooled = geometric.nn.global_mean_pool(x, data.batch)
        return states, pooled, self.head(pooled)

    def load(self, params) -> None:
        """Copy parameters of ours; each assignment names the tensor that holds them."""
        for tensor, array in self.places(params):
            tensor.data.copy_(torch.from_numpy(np.array(array)))

    def places(self, params):
        """(torch parameter or its gradient's owner, our array) of every parameter."""
        embed, blocks = params["embed"], params["blocks"]
        yield self.atoms.weight, embed["tokens"]
        yield from _parts(self.features, embed["features"], FEATURES)
        for i in range(LAYERS):
            yield from _parts(self.bonds[i], blocks["bonds"][i], BONDS)
            for place, name in ((0, "up"), (2, "down")):
                dense = blocks["feedforward"][name]
                yield self.convs[i].nn[place].weight, dense["kernel"][i].T
                yield self.convs[i].nn[place].bias, dense["bias"][i]
            yield self.norms[i].weight, blocks["norm"]["scale"][i]
            yield self.norms[i].bias, blocks["norm"]["bias"][i]
        if self.loops:
            yield self.own, blocks["self"]
        for place, name in ((0, "dense_0"), (2, "dense_1")):
            yield self.head[place].weight, params["head"][name]["kernel"].T
            yield self.head[place].bias, params["head"][name]["bias"]


def _parts(tables, rows, sizes):
    for table, start, size in zip(tables, np.cumsum([0, *sizes]), sizes, strict=False):
        yield table.weight, rows[start : start + size]


def error(found, expected) -> float:
    """The largest difference over the largest value."""
    expected = np.asarray(expected)
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


@functools.cache
def both(message: str):
    """Our layers' states, pooled vectors, projections and gradients, and the reference's."""
    spec = dataclasses.replace(SPEC, message=message)
    model = spec.build()
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32),
        parameters(spec),
    )
    batches = packed_graphs(GRAPHS, rows=12, tokens=32)
    assert len(batches) == 1
    (batch,) = batches
    weights = rng.normal(size=(len(GRAPHS), 16)).astype(np.float32)
    spread = np.where((batch.examples >= 0)[..., None], weights[batch.examples], 0)

    @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
    def ours(params):
        def loss(params):
            out = model.apply(params, batch, collect=("layers",))
            return jnp.sum(out.logits * spread), out

        return jax.value_and_grad(loss, has_aux=True)(params)

    (_, out), gradients = jax.device_get(ours(params))

    reference = Reference(message)
    reference.load(params)
    data = geometric.data.Batch.from_data_list(
        [
            geometric.data.Data(
                x=torch.from_numpy(graph.ids.astype(np.int64)),
                f=torch.from_numpy(graph.features.astype(np.int64)),
                edge_index=torch.from_numpy(graph.edges.astype(np.int64)).T,
                edge_attr=torch.from_numpy(graph.bonds.astype(np.int64)) - 1,
            )
            for graph in GRAPHS
        ]
    )
    states, pooled, logits = reference(data)
    (logits * torch.from_numpy(weights)).sum().backward()
    return batch, out, gradients, reference, data, states, pooled, logits


@pytest.mark.parametrize("message", ["relu", "sum"])
def test_every_layer_and_the_projections_are_those_of_the_reference(message):
    batch, out, _, _, data, states, pooled, logits = both(message)
    numbers = np.arange(len(GRAPHS))
    for layer, state in enumerate(states, 1):
        for number in numbers:
            ((row, slot),) = np.argwhere(batch.examples == number)
            own = out.layers[layer, row, batch.segment_ids[row] == slot + 1]
            assert error(own, state[data.batch == number].detach()) < 1e-5
    places = [tuple(np.argwhere(batch.examples == number)[0]) for number in numbers]
    for found, expected in ((out.pooled, pooled), (out.logits, logits)):
        assert error([found[place] for place in places], expected.detach()) < 1e-5


@pytest.mark.parametrize("message", ["relu", "sum"])
def test_every_gradient_is_that_of_the_reference(message):
    _, _, gradients, reference, *_ = both(message)
    compared = 0
    for tensor, gradient in reference.places(gradients):
        if tensor.grad.abs().max() > 1e-3:
            assert error(gradient, tensor.grad) < 1e-5, tensor.shape
        else:  # nothing but rounding: the bias that a norm takes away again
            np.testing.assert_allclose(gradient, tensor.grad, atol=1e-4)
        compared += gradient.size
    assert compared == sum(leaf.size for leaf in jax.tree.leaves(gradients))
