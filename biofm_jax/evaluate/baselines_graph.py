"""The simple method beside models of knowledge graphs: how many partners each end has."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from biofm_jax.adapt.labelled import Labelled

UNSEEN = 0.1  # partners of a node that has none among the training pairs


def ends(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Head and tail of each text "head tail": ids of nodes have no space."""
    return [tuple(text.split(" ", 1)) for text in texts]


def degree_prior(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """The chance of an edge if partners were drawn by degree alone: x / (1 + x).

    x = degree of the head * degree of the tail / edges, over the positive training pairs; a node
    without one counts as `UNSEEN`. A disease that was held out is ranked by its drugs' degrees.
    (The probability under permutation of the edges, Himmelstein et al. 2017, eLife 6:e26726,
    "prior probability", orders the pairs alike.)
    """
    heads, tails = Counter(), Counter()
    edges = 0
    for (head, tail), label in zip(ends(train.texts), train.targets[:, 0]):
        if label == 1:
            heads[head] += 1
            tails[tail] += 1
            edges += 1
    expected = np.array(
        [
            (heads[head] or UNSEEN) * (tails[tail] or UNSEEN) / max(edges, 1)
            for head, tail in ends(test.texts)
        ]
    )
    return (expected / (1 + expected))[:, None]


GRAPH_BASELINES = {"degree_prior": degree_prior}
