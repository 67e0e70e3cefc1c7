"""Homology splits of sequences: alike sequences are in one part, exact duplicates always."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from biofm_jax.errors import UserError
from biofm_jax.evaluate.canonical import CANONICAL
from biofm_jax.evaluate.kmers import KMERS, kmer_similarity
from biofm_jax.evaluate.similarity import Similarity
from biofm_jax.evaluate.split_groups import group_split
from biofm_jax.evaluate.splits import Fold


def homology_split(
    sequences: Sequence[str],
    identity: float = 0.5,
    modality: str = "protein",
    train: float = 0.8,
    valid: float = 0.1,
    seed: int = 0,
) -> Fold:
    """A split in which no two sequences of different parts reach an identity.

    The groups of `homology_groups`, assigned by `split_groups.group_split`. It may be stricter
    than asked: single linkage puts a chain of relatives in one part, though its ends differ.

    Args:
        sequences: n sequences.
        identity: from which on two sequences are kept together, above 0, at most 1.
        modality: a key of `kmers.KMERS`.
        train: share of the training part.
        valid: share of the validation part, 0 for none.
        seed: of the assignment.

    Raises:
        UserError: as `homology_groups` and `group_split`.
    """
    groups = homology_groups(sequences, identity, modality)
    try:
        return group_split(groups.tolist(), train, valid, seed)
    except UserError as error:
        raise UserError(
            f"homology split at identity {identity}: {len(sequences)} sequences fall into "
            f"{groups.max(initial=-1) + 1} groups; {error}"
        ) from error


def homology_groups(
    sequences: Sequence[str], identity: float = 0.5, modality: str = "protein"
) -> np.ndarray:
    """Single-linkage groups of sequences: alike directly, or through others.

    Identity is estimated from shared k-mers, see `kmers`. Sequences equal in canonical form
    are in one group whatever their length.

    Args:
        sequences: n sequences.
        identity: from which on two sequences are linked, above 0, at most 1.
        modality: a key of `kmers.KMERS`.

    Returns:
        (n,) int64 numbers of the groups, from 0 in order of first appearance.

    Raises:
        UserError: an unknown modality, an identity out of range, or one so low that k-mers
            cannot tell it from chance.
    """
    if modality not in KMERS:
        raise UserError(f"no k-mers are known for {modality!r}; known: {', '.join(KMERS)}")
    if not 0 < identity <= 1:
        raise UserError(f"identity is {identity}; a share above 0, at most 1, is wanted")
    form, _ = CANONICAL[modality]
    number: dict[str, int] = {}
    same = np.array([number.setdefault(form(text), len(number)) for text in sequences], np.int64)
    similarity = kmer_similarity(list(number), KMERS[modality])
    if identity < min(similarity.floor, 1.0):
        raise UserError(
            f"an {similarity.name} below {similarity.floor:.2f} is not above chance for these "
            f"sequences (half of them have at most {np.median(similarity.sizes):.0f} k-mers), so "
            f"{identity} cannot be asked for: cluster by alignment (MMseqs2, CD-HIT) and give "
            "the clusters to group_split"
        )
    return linked_groups(similarity, identity)[same]


def linked_groups(similarity: Similarity, threshold: float) -> np.ndarray:
    """(n,) numbers of the single-linkage groups of items at least so similar, in item order."""
    everyone = np.arange(len(similarity.sizes))
    if not len(everyone):
        return everyone
    group = everyone
    # A hair below, so that rounding does not part a pair that just reaches the threshold.
    least = np.float32(threshold ** (1 / similarity.power) * (1 - 1e-6))
    for rows, scores in similarity.blocks(everyone, everyone):
        row, column = np.nonzero(scores >= least)
        # The groups so far, as links to a representative, and the new links.
        first = np.concatenate([everyone, rows[row]])
        second = np.concatenate([_representative(group), column])
        links = coo_array((np.ones(len(first), bool), (first, second)), (len(everyone),) * 2)
        _, group = connected_components(links, directed=False)
    _, number = np.unique(_representative(group), return_inverse=True)
    return number.astype(np.int64)


def _representative(group: np.ndarray) -> np.ndarray:
    """(n,) the first item of each item's group."""
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    return first[number]
