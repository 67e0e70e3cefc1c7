"""A graph network of PyTorch Geometric's layers, which takes our parameters."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch_geometric as geometric

from biofm_jax.data.graphs import GraphExample
from biofm_jax.models.graph import GraphSpec


class WithoutRelu(geometric.nn.GINEConv):
    """MolCLR's message: no ReLU."""

    def message(self, x_j, edge_attr):
        """(m, d) messages of m edges."""
        return x_j + edge_attr


class GinReference(torch.nn.Module):
    """An encoder of GINEConv layers with a projection head of two layers."""

    def __init__(self, spec: GraphSpec):
        super().__init__()
        nn, width, self.spec = torch.nn, spec.width, spec
        conv = WithoutRelu if spec.message == "sum" else geometric.nn.GINEConv
        self.atoms = nn.Embedding(spec.vocabulary, width)
        self.features = nn.ModuleList(nn.Embedding(n, width) for n in spec.features)
        self.bonds = nn.ModuleList(
            nn.ModuleList(nn.Embedding(n, width) for n in spec.bonds) for _ in range(spec.layers)
        )
        self.loops = spec.message == "sum"
        self.own = nn.Parameter(torch.zeros(spec.layers, width), requires_grad=self.loops)
        inner = spec.hidden_width
        self.convs = nn.ModuleList(
            conv(
                nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width)),
                eps=-1.0 if self.loops else 0.0,
            )
            for _ in range(spec.layers)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(width, eps=spec.norm_epsilon) for _ in range(spec.layers)
        )
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, spec.head.width)
        )

    def forward(self, data) -> tuple[list, Any]:
        """(n, d) states of all atoms behind every layer, and (graphs, outputs) projections."""
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
            x = x if layer == self.spec.layers - 1 else x.relu()
        return states, self.head(geometric.nn.global_mean_pool(x, data.batch))

    def loss(self, logits, weights: np.ndarray):
        """The sum of the projections times some weights."""
        return (logits * torch.from_numpy(weights)).sum()

    def load(self, params: dict) -> None:
        """Copy parameters of ours."""
        for tensor, array in self.places(params):
            tensor.data.copy_(torch.from_numpy(np.array(array)))

    def places(self, params: dict) -> Iterator[tuple[Any, Any]]:
        """A parameter of the reference and the array of ours that it corresponds to, for all."""
        embed, blocks = params["embed"], params["blocks"]
        yield self.atoms.weight, embed["tokens"]
        yield from _parts(self.features, embed["features"], self.spec.features)
        for i in range(self.spec.layers):
            yield from _parts(self.bonds[i], blocks["bonds"][i], self.spec.bonds)
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


def joined(graphs: list[GraphExample]) -> Any:
    """Graphs as PyTorch Geometric batches them."""
    return geometric.data.Batch.from_data_list(
        [
            geometric.data.Data(
                x=torch.from_numpy(graph.ids.astype(np.int64)),
                f=torch.from_numpy(graph.features.astype(np.int64)),
                edge_index=torch.from_numpy(graph.edges.astype(np.int64)).T,
                edge_attr=torch.from_numpy(graph.bonds.astype(np.int64)) - 1,
            )
            for graph in graphs
        ]
    )


def _parts(tables, rows, sizes) -> Iterator[tuple[Any, Any]]:
    for table, start, size in zip(tables, np.cumsum([0, *sizes]), sizes, strict=False):
        yield table.weight, rows[start : start + size]
