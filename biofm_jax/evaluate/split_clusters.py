"""Splits that keep molecules alike on one side: Butina clusters of fingerprints."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from biofm_jax.errors import UserError
from biofm_jax.evaluate.similarity import ecfp4_similarity
from biofm_jax.evaluate.splits import Fold, filled

CUTOFF = 0.6  # Tanimoto distance: the default of deepchem.splits.ButinaSplitter


def butina_clusters(smiles: Sequence[str], cutoff: float = CUTOFF) -> list[list[int]]:
    """Clusters by Butina 1999 (J Chem Inf Comput Sci 39:747), those of rdkit.ML.Cluster.Butina.

    Molecules are neighbours at an ECFP4 Tanimoto distance (2,048 bits) of at most the cutoff. The
    one with most neighbours, of equals the last, takes all that are still free, and so on; the
    neighbours are counted once. Every molecule is within the cutoff of the first of its cluster.

    Args:
        smiles: n SMILES strings.
        cutoff: distance, 0 to below 1; nothing is drawn at random.

    Returns:
        Clusters in the order in which they are made, each with its centre first, the others by
        number.

    Raises:
        UserError: rdkit is missing, cannot parse a SMILES, or the cutoff is out of its range.
    """
    if not 0 <= cutoff < 1:
        raise UserError(f"cutoff is {cutoff}; a Tanimoto distance of at least 0, below 1 is wanted")
    near = _neighbours(smiles, cutoff)
    counts = np.diff(near.indptr)
    free = np.ones(len(smiles), bool)
    clusters = []
    for centre in np.lexsort((np.arange(len(smiles)), counts))[::-1].tolist():
        if not free[centre]:
            continue
        free[centre] = False
        around = near.indices[near.indptr[centre] : near.indptr[centre + 1]]
        members = np.sort(around[free[around]])
        free[members] = False
        clusters.append([centre, *members.tolist()])
    return clusters


def cluster_split(
    smiles: Sequence[str], train: float = 0.8, valid: float = 0.1, cutoff: float = CUTOFF
) -> Fold:
    """The deterministic cluster split: large clusters train, small ones test.

    Clusters, from large to small and in the order of `butina_clusters` where equal, fill the
    parts as in `splits.filled` (the rule of deepchem.splits.ButinaSplitter, whose fingerprints
    have 1,024 bits). Molecules of different clusters can be as near as the cutoff: the leak report
    says how near.

    Args:
        smiles: n SMILES strings.
        train: share of the training part.
        valid: share of the validation part.
        cutoff: as of `butina_clusters`.
    """
    clusters = sorted(butina_clusters(smiles, cutoff), key=len, reverse=True)
    return filled(clusters, train, valid)


def _neighbours(smiles: Sequence[str], cutoff: float) -> sparse.csr_array:
    """(n, n) which molecules are within the cutoff; none is its own neighbour."""
    similarity = ecfp4_similarity(smiles)
    everything = np.arange(len(smiles))
    indices, counts = [np.zeros(0, np.int64)], [0]
    for part, scores in similarity.blocks(everything, everything):
        # A float32 quotient can be off by a rounding: at the cutoff itself counts as within.
        within = scores >= 1 - cutoff - 1e-6
        within[np.arange(len(part)), part] = False
        rows, columns = np.nonzero(within)
        indices.append(columns)
        counts += np.bincount(rows, minlength=len(part)).tolist()
    found = np.concatenate(indices)
    return sparse.csr_array(
        (np.ones(len(found), bool), found, np.cumsum(counts)), (len(smiles), len(smiles))
    )
