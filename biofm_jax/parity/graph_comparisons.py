"""Our graph layers against PyTorch Geometric's with the same weights."""

import jax
import numpy as np

from biofm_jax.data.knowledge_graph import KnowledgeGraph, Relation, in_order
from biofm_jax.data.neighbours import Neighbours
from biofm_jax.models.relational import RelationalSpec, relational_layer
from biofm_jax.parity.compared import Compared
from biofm_jax.parity.gin import measure_gin
from biofm_jax.parity.measures import relative_error, worst

NEEDS = ("torch_geometric",)
NODES = 48
RELATIONS = (
    Relation("binds", "Compound", "Gene"),
    Relation("treats", "Compound", "Disease"),
    Relation("causes", "Gene", "Disease"),
    Relation("interacts", "Gene", "Gene", symmetric=True),
)


def random_graph() -> KnowledgeGraph:
    """Three types of 16 nodes, and facts between one pair in seven."""
    rng, types = np.random.default_rng(0), ("Compound", "Disease", "Gene")
    of_type = np.arange(NODES).reshape(3, -1)
    facts = []
    for number, relation in enumerate(RELATIONS):
        heads, tails = (of_type[types.index(name)] for name in (relation.head, relation.tail))
        for head in heads:
            for tail in tails:
                if head != tail and rng.random() < 1 / 7:
                    ends = sorted((head, tail)) if relation.symmetric else (head, tail)
                    facts.append((ends[0], number, ends[1]))
    names = tuple(f"node {i}" for i in range(NODES))
    kinds = np.repeat(np.arange(3, dtype=np.int32), NODES // 3)
    return KnowledgeGraph(names, names, types, kinds, RELATIONS, in_order(np.array(facts)))


def measure_relational(width: int, bases: int) -> tuple[dict[str, float], int]:
    """Relative errors of one layer's states and of every gradient.

    Args:
        width: of the states.
        bases: of the layer.
    """
    import torch
    from torch_geometric.nn import RGCNConv

    graph, count = random_graph(), len(RELATIONS)
    spec = RelationalSpec(nodes=NODES, relations=count, width=width, bases=bases)
    params = jax.device_get(spec.build().init(jax.random.key(1)))
    layer, states = params["layer_0"], params["nodes"]
    layer["bias"] = np.random.default_rng(0).normal(size=width).astype(np.float32)
    most = 2 * len(graph.triples)
    near, relation = Neighbours(graph).sample(np.arange(NODES), most, np.random.default_rng(0))

    def ours(layer, states):
        out = relational_layer(layer, states, states[near], relation)
        return (out**2).sum(), out

    (_, out), found = jax.value_and_grad(ours, argnums=(0, 1), has_aux=True)(layer, states)
    head, kind, tail = graph.triples.T.astype(np.int64)
    both = np.array([r.symmetric for r in RELATIONS])[kind]
    # Messages run from the source to the target: a head hears of its tails by r.
    edges = np.stack([np.append(tail, head), np.append(head, tail)])
    kinds = np.append(kind, np.where(both, kind, kind + count))
    conv = RGCNConv(width, width, 2 * count, num_bases=bases, aggr="mean")
    theirs = {"bases": conv.weight, "mix": conv.comp, "root": conv.root, "bias": conv.bias}
    with torch.no_grad():
        for name, tensor in theirs.items():
            tensor.copy_(torch.tensor(layer[name]))
    x = torch.tensor(states, requires_grad=True)
    wanted = conv(x, torch.tensor(edges), torch.tensor(kinds))
    wanted.square().sum().backward()
    gradients = [relative_error(found[0][name], tensor.grad) for name, tensor in theirs.items()]
    figures = {
        "logits": relative_error(out, wanted.detach()),
        "gradients": worst([relative_error(found[1], x.grad), *gradients]),
    }
    return figures, sum(leaf.size for leaf in layer.values())


def graph_comparisons() -> list[Compared]:
    """Two of each."""
    gin = "torch_geometric GINEConv, same weights"
    rgcn = "torch_geometric RGCNConv, same weights"
    messages = {"relu": "GINE's message, width 24", "sum": "MolCLR's message, width 24"}
    return [
        *(
            Compared("gin", variant, gin, lambda message=message: measure_gin(message, 24), NEEDS)
            for message, variant in messages.items()
        ),
        *(
            Compared(
                "rgcn",
                f"width {width}, {bases} bases",
                rgcn,
                lambda width=width, bases=bases: measure_relational(width, bases),
                NEEDS,
            )
            for width, bases in ((16, 4), (24, 2))
        ),
    ]
