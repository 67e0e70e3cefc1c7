"""Our graph network and one of PyTorch Geometric's GINEConv with the same weights.

Its message is relu(h_u + e_uv) (Hu et al. 2020, arXiv 1905.12265). MolCLR's has no ReLU, and an
atom's message to itself has a vector of its own: there the layer's message is replaced, and a loop
added. Both have a LayerNorm where MolCLR normalises over the batch.
"""

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.data.graphs import GraphExample
from biofm_jax.data.in_memory import PackedExamples, pack_examples
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.parity.measures import gradient_error, relative_error, worst

VOCABULARY = Vocabulary.of(
    ("<pad>", "<mask>", *"abcdef"), {"pad": "<pad>", "mask": "<mask>", "unk": "a"}
)
FEATURES, BONDS = (3, 4), (4, 3)  # classes of the features of atoms and bonds
COUNT, LARGEST = 12, 16  # graphs, and atoms of one


def random_graphs() -> list[GraphExample]:
    """Random trees of 1 to 15 atoms with up to two rings closed."""
    rng, made = np.random.default_rng(5), []
    for size in rng.integers(1, LARGEST, COUNT):
        bonds = {(int(rng.integers(i)), i) for i in range(1, size)}
        if size > 3:
            bonds |= {tuple(sorted(map(int, rng.choice(size, 2, False)))) for _ in range(2)}
        bonds = sorted(bonds)
        edges = [end for one, other in bonds for end in ((one, other), (other, one))]
        kinds = np.stack([rng.integers(1, n + 1, len(bonds)) for n in BONDS], 1)
        made.append(
            GraphExample(
                rng.integers(2, VOCABULARY.size, size).astype(np.uint8),
                np.stack([rng.integers(0, n, size) for n in FEATURES], 1).astype(np.uint8),
                np.array(edges, np.uint16).reshape(-1, 2),
                np.repeat(kinds, 2, 0).astype(np.uint8),
            )
        )
    return made


def measure_gin(message: str, width: int) -> tuple[dict[str, float], int]:
    """Relative errors of projections, of every layer and of every gradient; packing; bfloat16.

    Args:
        message: "relu" or "sum", as of `GraphSpec`.
        width: of the states.
    """
    from biofm_jax.parity.gin_reference import GinReference, joined

    spec = GraphSpec(
        vocabulary=VOCABULARY.size,
        features=FEATURES,
        bonds=BONDS,
        layers=5,
        width=width,
        message=message,
        head=ProjectionHead(16),
        init_std=0.3,
    )
    model, rng = spec.build(), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), None))

    def draw(path, leaf):
        offset = float(path[-1].key == "scale")
        return (offset + 0.3 * rng.normal(size=leaf.shape)).astype(np.float32)

    params = jax.tree_util.tree_map_with_path(draw, shapes)
    graphs = random_graphs()
    packed = _packed(graphs, rows=6, tokens=40, slots=4)
    (batch,) = packed.batches
    weights = rng.normal(size=(COUNT, 16)).astype(np.float32)
    spread = np.where((batch.examples >= 0)[..., None], weights[batch.examples], 0)

    def ours(params):
        out = model.apply(params, batch, collect=("layers",))
        return jnp.sum(out.logits * spread), out

    gradients, out = jax.jit(jax.grad(ours, has_aux=True))(params)
    reference = GinReference(spec)
    reference.load(params)
    states, logits = reference(joined(graphs))
    reference.loss(logits, weights).backward()
    ends = np.cumsum([len(graph) for graph in graphs])
    hidden = []
    for layer, state in enumerate(states, 1):
        theirs = np.split(state.detach().numpy(), ends[:-1])
        for number in range(COUNT):
            row, slot = packed.row[number], packed.segment[number]
            mine = np.asarray(out.layers)[layer, row, batch.segment_ids[row] == slot + 1]
            hidden.append(relative_error(mine, theirs[number]))
    found = packed.gather([out.logits])
    figures = {
        "logits": relative_error(found, logits.detach()),
        "hidden": worst(hidden),
        "gradients": worst(
            gradient_error(ours, theirs.grad) for theirs, ours in reference.places(gradients)
        ),
    }
    alone = _packed(graphs, rows=COUNT, tokens=LARGEST, slots=1)
    run = jax.jit(model.apply)
    figures["packed"] = relative_error(found, alone.gather([run(params, alone.batches[0]).logits]))
    low = spec.replaced(dtype="bfloat16").build()
    figures["bf16"] = relative_error(
        packed.gather([jax.jit(low.apply)(params, batch).logits]), found
    )
    return figures, sum(leaf.size for leaf in jax.tree.leaves(params))


def _packed(graphs, rows: int, tokens: int, slots: int) -> PackedExamples:
    options = {"max_tokens": tokens, "segments": slots, "batch_size": rows}
    packed = pack_examples(graphs, VOCABULARY, **options)
    assert len(packed.batches) == 1
    return packed
