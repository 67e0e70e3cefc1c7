"""Small random graphs with the features of molecules, shared by the tests of several rooms."""

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.graphs import GraphExample
from biofm_jax.data.in_memory import pack_examples
from biofm_jax.data.tokenizers import Vocabulary

VOCABULARY = Vocabulary.of(
    ("<pad>", "<mask>", *"abcdef"), {"pad": "<pad>", "mask": "<mask>", "unk": "a"}
)
FEATURES, BONDS = (3, 4), (4, 3)


def toy_graph(size: int, rng) -> GraphExample:
    """A random tree of atoms with up to two rings closed."""
    bonds = [(int(rng.integers(i)), i) for i in range(1, size)]
    for _ in range(2):
        one, other = sorted(int(i) for i in rng.integers(0, size, 2))
        if size > 3 and one != other and (one, other) not in bonds:
            bonds.append((one, other))
    edges = [end for one, other in bonds for end in ((one, other), (other, one))]
    kinds = np.stack([rng.integers(1, n + 1, len(bonds)) for n in BONDS], 1)
    return GraphExample(
        rng.integers(2, 8, size).astype(np.uint8),
        np.stack([rng.integers(0, n, size) for n in FEATURES], 1).astype(np.uint8),
        np.array(edges, np.uint16).reshape(-1, 2),
        np.repeat(kinds, 2, 0).astype(np.uint8),
    )


def toy_graphs(count: int, seed=0, sizes=(1, 12)) -> list[GraphExample]:
    """So many of them."""
    rng = np.random.default_rng(seed)
    return [toy_graph(int(size), rng) for size in rng.integers(*sizes, count)]


def packed_graphs(examples, rows=4, tokens=16, slots=4) -> list[Batch]:
    """Batches of them, the last one filled with empty rows."""
    options = {"max_tokens": tokens, "segments": slots, "batch_size": rows}
    return pack_examples(examples, VOCABULARY, **options).batches
