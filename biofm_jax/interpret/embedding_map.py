"""Embeddings on a plane: PCA, or UMAP where it is installed."""

from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA

from biofm_jax.array_types import typed
from biofm_jax.errors import UserError

Projection = Literal["pca", "umap"]


@typed
def embedding_map(
    features: Float[np.ndarray, "n d"], projection: Projection = "pca", seed: int = 0
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "2"] | None]:
    """Two coordinates for each item.

    Args:
        features: (n, d), n at least 3.
        projection: "pca" keeps distances as well as a plane can; "umap" (McInnes et al. 2018)
            keeps neighbours, and its distances between groups mean nothing.
        seed: of both.

    Returns:
        (n, 2) coordinates and, of PCA, the shares of variance of the two.

    Raises:
        UserError: fewer than 3 items, or UMAP without umap-learn.
    """
    if len(features) < 3:
        raise UserError(f"a map needs at least 3 items, not {len(features)}")
    if projection == "pca":
        pca = PCA(2, random_state=seed)
        return pca.fit_transform(features), pca.explained_variance_ratio_
    try:
        from umap import UMAP
    except ImportError:
        raise UserError("UMAP needs umap-learn: pip install 'biofm_jax[umap]'") from None
    neighbours = min(15, len(features) - 1)
    return UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(features), None
