"""What attention says: which tokens an output drew on, and which residues touch."""

import numpy as np
from jaxtyping import Bool, Float

from biofm_jax.array_types import typed


@typed
def rollout(attentions: Float[np.ndarray, "l h t t"]) -> Float[np.ndarray, "t t"]:
    """How much each token's last state draws on each input token, through all layers.

    The mean over heads, half of it for the residual stream, multiplied from layer to layer
    (Abnar and Zuidema 2020, arXiv 2005.00928, equation 1). A model of the flow, not a proof of
    influence.

    Args:
        attentions: (l, h, t, t) weights of one text; rows (queries) sum to 1.

    Returns:
        (t, t) rows that sum to 1: token i draws share [i, j] from token j.
    """
    flow = np.eye(attentions.shape[-1])
    for layer in attentions.astype(np.float64).mean(1):
        mixed = (layer + np.eye(len(layer))) / 2
        flow = (mixed / mixed.sum(1, keepdims=True)) @ flow
    return flow


@typed
def coupling(attentions: Float[np.ndarray, "l h t t"]) -> Float[np.ndarray, "l h t t"]:
    """Symmetrised attention of each head after the average product correction.

    Attention to a token that all tokens attend to says nothing about a pair: the product of row
    and column sums over the whole sum is taken away (Dunn et al. 2008; Rao et al. 2020, doi
    10.1101/2020.12.15.422761, section 3.2).
    """
    both = attentions.astype(np.float64)
    both = both + np.swapaxes(both, -1, -2)
    rows, columns = both.sum(-1, keepdims=True), both.sum(-2, keepdims=True)
    return both - rows * columns / np.maximum(both.sum((-1, -2), keepdims=True), 1e-30)


@typed
def contact_map(
    attentions: Float[np.ndarray, "l h t t"], residues: Bool[np.ndarray, " t"]
) -> Float[np.ndarray, "r r"]:
    """How strongly every pair of residues is coupled; `interpret.contacts` gives probabilities.

    Args:
        attentions: (l, h, t, t) weights of one text.
        residues: (t,) which tokens are residues; cls and eos are left out before correcting.

    Returns:
        (r, r) symmetric mean over layers and heads, without a unit.
    """
    return coupling(attentions[:, :, residues][:, :, :, residues]).mean((0, 1))
