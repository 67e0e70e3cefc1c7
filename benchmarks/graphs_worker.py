"""One contender of the graph benchmark, in a process of its own; see `train_worker` for commands.

    python -m benchmarks.graphs_worker CONTENDER MESSAGE FOLDER CORE

MESSAGE is that of `GraphSpec`. A contender is a package and a way: `_whole` takes a batch at once,
`_parts` adds up the gradients of `PARTS` microbatches, whose activations stay in the cache of a
core. `ours` and `pyg` take parts and make each batch anew from graphs in memory, the others have
made them before. `weights` makes FOLDER/weights.npz and ends.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import inputs

CONTENDERS = {
    "ours": "in microbatches, batches made in the step",
    "pyg": "in microbatches, batches made in the step",
    "ours_parts": "in microbatches",
    "pyg_parts": "in microbatches",
    "ours_whole": "whole batches",
    "pyg_whole": "whole batches",
}
ROWS, PARTS, BATCHES = 64, 8, 4  # packed rows of a batch, about MolCLR's 512 molecules
TOKENS, SEGMENTS = 128, 16
# So small a rate that rounding, which Adam magnifies where a gradient is 0, does not show.
RATE, B1, B2, EPSILON, DECAY = 1e-6, 0.9, 0.999, 1e-8, 1e-5


def spec_of(message: str):
    """MolCLR's GIN with one output."""
    from biofm_jax.data.molecule_graph import ATOM_FEATURES, BOND_FEATURES, AtomTokenizer
    from biofm_jax.models.graph import GraphSpec
    from biofm_jax.models.heads import PredictionHead

    return GraphSpec(
        vocabulary=AtomTokenizer().vocabulary.size,
        features=ATOM_FEATURES[:1],
        bonds=BOND_FEATURES[:2],
        message=message,
        head=PredictionHead(1),
    )


def molecules():
    """Graphs of rdkit's own NCI file, (n, 1) float32 labels, and the batches as rows of numbers."""
    import numpy as np

    from biofm_jax.data.bad_records import BadText
    from biofm_jax.data.molecule import quickstart_molecules
    from biofm_jax.data.molecule_graph import molecule_graph
    from biofm_jax.data.packing import plan_rows

    graphs, labels, table = [], [], quickstart_molecules()
    for text, label in zip(table.smiles, table.labels, strict=True):
        try:
            graph = molecule_graph(text)
        except BadText:
            continue
        if len(graph) <= TOKENS:
            graphs.append(graph)
            labels.append(label / 100)
        if len(graphs) == 2200:
            break
    rows = plan_rows(np.array([len(graph) for graph in graphs]), TOKENS, SEGMENTS)
    batches = [rows[i * ROWS : (i + 1) * ROWS] for i in range(BATCHES)]
    return graphs, labels, batches


def our_stepper(message: str, folder: Path, kept: bool, parts: int) -> Callable[[int], float]:
    """The step that `biofm train` compiles; the index of the batch to the loss."""
    import jax
    import numpy as np

    from biofm_jax.data.graphs import GraphRows, GraphStore
    from biofm_jax.data.molecule_graph import AtomTokenizer
    from biofm_jax.objectives.supervised import Supervised
    from biofm_jax.train.host_memory import keep_freed_memory
    from biofm_jax.train.mesh import MeshSpec
    from biofm_jax.train.optimizer import OptimizerSpec
    from biofm_jax.train.placement import to_devices
    from biofm_jax.train.step import build_program

    keep_freed_memory()
    graphs, labels, plans = molecules()
    vocabulary, spec = AtomTokenizer().vocabulary, spec_of(message)
    store = GraphStore.from_examples(graphs, vocabulary)
    builder = GraphRows(store, TOKENS, SEGMENTS, ROWS, 0, np.float32(labels))
    mesh = MeshSpec().build()
    optimizer = OptimizerSpec(
        learning_rate=RATE, schedule="constant", warmup=0, b1=B1, b2=B2, eps=EPSILON,
        weight_decay=DECAY, no_decay=(), clip_norm=0.0,
    )  # fmt: skip

    def batch(index: int):
        return to_devices(mesh, builder.batch(plans[index]))

    made = [batch(index) for index in range(BATCHES)]
    with jax.set_mesh(mesh):
        program = build_program(
            spec.build(),
            Supervised("squared").build(vocabulary),
            lambda axes: optimizer.build(1, axes),
            mesh,
            made[0],
            parts,
        )
        held = [program.adopt(0, parameters(folder))]

    def step(index: int) -> float:
        with jax.set_mesh(mesh):
            held[0], metrics = program.step(held[0], made[index] if kept else batch(index))
        return float(metrics["loss"])

    return step


def parameters(folder: Path) -> dict:
    """The weights as a nested dict."""
    import numpy as np

    tree: dict = {}
    for path, leaf in np.load(folder / "weights.npz").items():
        *parents, name = path.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = leaf
    return tree


def pyg_model(message: str, params: dict):
    """The same network of PyTorch Geometric's GINEConv and torch's layers, with the weights."""
    import numpy as np
    import torch
    from torch_geometric.nn import GINEConv, global_mean_pool

    class Linear(GINEConv):
        """MolCLR's message: no ReLU."""

        def message(self, x_j, edge_attr):
            return x_j + edge_attr

    spec, nn = spec_of(message), torch.nn
    d, f = spec.width, spec.hidden_width
    conv, blocks = Linear if message == "sum" else GINEConv, params["blocks"]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.atoms = nn.Embedding(spec.vocabulary, d)
            self.chirality = nn.Embedding(spec.features[0], d)
            self.types = nn.ModuleList(nn.Embedding(spec.bonds[0], d) for _ in range(spec.layers))
            self.stereo = nn.ModuleList(nn.Embedding(spec.bonds[1], d) for _ in range(spec.layers))
            self.own = nn.Parameter(torch.zeros(spec.layers, d), message == "sum")
            self.convs = nn.ModuleList(
                conv(nn.Sequential(nn.Linear(d, f), nn.ReLU(), nn.Linear(f, d)))
                for _ in range(spec.layers)
            )
            self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(spec.layers))
            self.out = nn.Linear(d, 1)

        def forward(self, data):
            x = self.atoms(data.x) + self.chirality(data.f)
            for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                x = x.relu() if i else x
                bonds = self.types[i](data.edge_attr[:, 0]) + self.stereo[i](data.edge_attr[:, 1])
                # The vector of MolCLR's self loops is the same for all: added once, not by edge.
                y = conv.propagate(data.edge_index, x=(x, x), edge_attr=bonds)
                x = norm(conv.nn(y + x + self.own[i] if message == "sum" else y + x))
            return self.out(global_mean_pool(x, data.batch, len(data.y)))

    model = Network()
    tables = np.cumsum([0, *spec.bonds])
    pairs = [
        (model.atoms.weight, params["embed"]["tokens"]),
        (model.chirality.weight, params["embed"]["features"]),
        (model.out.weight, params["head"]["out"]["kernel"].T),
        (model.out.bias, params["head"]["out"]["bias"]),
    ]
    for i in range(spec.layers):
        up, down = (blocks["feedforward"][name] for name in ("up", "down"))
        pairs += [
            (model.types[i].weight, blocks["bonds"][i, : tables[1]]),
            (model.stereo[i].weight, blocks["bonds"][i, tables[1] :]),
            (model.convs[i].nn[0].weight, up["kernel"][i].T),
            (model.convs[i].nn[0].bias, up["bias"][i]),
            (model.convs[i].nn[2].weight, down["kernel"][i].T),
            (model.convs[i].nn[2].bias, down["bias"][i]),
        ]
    if message == "sum":
        pairs.append((model.own, blocks["self"]))
    for tensor, array in pairs:
        tensor.data.copy_(torch.from_numpy(np.array(array)))
    return model


def pyg_stepper(message: str, folder: Path, kept: bool, parts: int) -> Callable[[int], float]:
    """Forward, backward, AdamW; the index of the batch to the loss."""
    import numpy as np
    import torch
    from torch_geometric.data import Batch, Data

    torch.set_num_threads(1)
    model = pyg_model(message, parameters(folder))
    optimizer = torch.optim.AdamW(
        model.parameters(), RATE, (B1, B2), EPSILON, weight_decay=DECAY, fused=True
    )
    molecule_graphs, labels, plans = molecules()
    graphs = [
        Data(
            x=torch.from_numpy(graph.ids.astype(np.int64)),
            f=torch.from_numpy(graph.features[:, 0].astype(np.int64)),
            edge_index=torch.from_numpy(graph.edges.astype(np.int64).T.copy()),
            edge_attr=torch.from_numpy(graph.bonds[:, :2].astype(np.int64) - 1),
            y=torch.from_numpy(np.float32(label)),
        )
        for graph, label in zip(molecule_graphs, labels, strict=True)
    ]

    def batches(index: int):
        size = ROWS // parts
        for start in range(0, ROWS, size):
            rows = plans[index][start : start + size]
            yield Batch.from_data_list([graphs[i] for row in rows for i in row])

    made = [list(batches(index)) for index in range(BATCHES)]
    counts = [sum(map(len, plan)) for plan in plans]

    def step(index: int) -> float:
        total = 0.0
        for data in made[index] if kept else batches(index):
            errors = torch.nn.functional.mse_loss(model(data)[:, 0], data.y, reduction="sum")
            loss = errors / counts[index]
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def make_weights(message: str, folder: Path) -> None:
    """Write the weights that all contenders start from."""
    import jax
    import numpy as np

    from biofm_jax.train.optimizer import parameter_path

    params = spec_of(message).build().init(jax.random.key(0), None)
    leaves = jax.tree.leaves_with_path(params)
    np.savez(folder / "weights.npz", **{parameter_path(path): leaf for path, leaf in leaves})


def main() -> None:
    """Serve the commands of standard input."""
    contender, message, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    os.environ.update(inputs.one_core(int(sys.argv[4])))
    if contender == "weights":
        make_weights(message, folder)
        return
    make = our_stepper if contender.startswith("ours") else pyg_stepper
    parts = 1 if contender.endswith("_whole") else PARTS
    step = make(message, folder, "_" in contender, parts)
    done = 0
    for line in sys.stdin:
        command, count = line.split()
        if command == "time":
            inputs.to_last_core()
        began = time.process_time()
        losses = [step((done + i) % BATCHES) for i in range(int(count))]
        seconds = time.process_time() - began
        done += int(count)
        print(json.dumps(losses if command == "losses" else seconds), flush=True)


if __name__ == "__main__":
    main()
