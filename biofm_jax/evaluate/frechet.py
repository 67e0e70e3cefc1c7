"""The Fréchet distance of two sets of molecules by their fingerprints."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.array_types import typed
from biofm_jax.evaluate.molecules import RADIUS, parse

PLACES = 256  # of the folded fingerprint: a covariance that some hundred molecules can estimate


def fingerprint_frechet(one: Sequence[str], other: Sequence[str]) -> float:
    """Fréchet distance of ECFP4 counts, folded to 256 places, as log(1 + count).

    It is to the Fréchet ChemNet Distance (Preuer et al. 2018, J Chem Inf Model 58:1736) what it
    can be without that network's weights, and no figure of that name: compare it with the distance
    of two sets of known molecules of the same size, which chance alone gives.

    Args:
        one: SMILES of 2 molecules or more.
        other: as many, or the distance depends on the numbers.

    Raises:
        UserError: rdkit is not installed, or cannot parse one.
    """
    return frechet_distance(folded_counts(one), folded_counts(other))


def folded_counts(smiles: Sequence[str]) -> np.ndarray:
    """(n, 256) float64 log(1 + count) of Morgan environments of radius 2."""
    molecules = parse(smiles)
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    generator = GetMorganGenerator(radius=RADIUS, fpSize=PLACES)
    counts = [generator.GetCountFingerprintAsNumPy(molecule) for molecule in molecules]
    return np.log1p(np.array(counts, np.float64).reshape(-1, PLACES))


@typed
def frechet_distance(one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"]) -> float:
    """|mean - mean'|^2 + tr(C + C' - 2 (C C')^1/2) of the Gaussians fitted to two samples.

    (Dowson & Landau 1982, J Multivariate Anal 12:450; Heusel et al. 2017, arXiv:1706.08500, eq. 6.)
    Never below 0; covariances may be singular.
    """
    apart = one.mean(0) - other.mean(0)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # (C C')^1/2 has the trace of (C^1/2 C' C^1/2)^1/2, which is symmetric.
    inner = np.linalg.eigvalsh(root @ second @ root)
    shared = np.sqrt(np.maximum(inner, 0)).sum()
    return max(0.0, float(apart @ apart + np.trace(first) + np.trace(second) - 2 * shared))
