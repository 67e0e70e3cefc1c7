"""Pooling by attention: a learned query reads an example's tokens (Lee et al. 2019,
arXiv:1810.00825; the image tower of SigLIP, Zhai et al. 2023, arXiv:2303.15343)."""

from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, Hidden, Pooled
from biofm_jax.data.batch import Batch
from biofm_jax.models.layers import Dense, FeedForward, Norm, normal, parameter

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec


class AttentionPool(nn.Module):
    """One vector (b, s, d) float32 of each packed example, zero for an empty slot, and the weights
    of its tokens (b, s, t), the mean over heads.

    Heads, feed-forward, activation and norm are of the same kind as in the blocks.
    """

    spec: "TransformerSpec"

    @nn.compact
    def __call__(self, hidden: Hidden, batch: Batch) -> tuple[Pooled, Float[ArrayLike, "b s t"]]:
        spec = self.spec
        d, h, w = spec.width, spec.heads, spec.head_size
        query = parameter(self, "query", normal(spec.init_std), (1, d), (None, None))
        query = jnp.broadcast_to(query.astype(hidden.dtype), (hidden.shape[0], 1, d))
        # The query goes through the same product as the tokens, whose weights are one tensor.
        shape, axes = (d, 3, h, w), ("embed", None, "heads", None)
        qkv = Dense(shape, axes, spec.init_std, True, name="qkv")(
            jnp.concatenate([query, hidden], axis=1)
        )
        q, k, v = qkv[:, 0, 0], qkv[:, 1:, 1], qkv[:, 1:, 2]
        scores = jnp.einsum("bhw,bthw->bht", q, k, preferred_element_type=jnp.float32) * w**-0.5
        slots = jnp.arange(1, batch.examples.shape[1] + 1)
        members = batch.segment_ids[:, None, :] == slots[:, None]
        scores = jnp.where(members[:, :, None], scores[:, None], -1e30)
        weights = jax.nn.softmax(scores, axis=-1)
        y = jnp.einsum("bsht,bthw->bshw", weights.astype(hidden.dtype), v)
        shape, axes = (h, w, d), ("heads", None, "embed")
        y = Dense(shape, axes, spec.out_std, True, 2, name="out")(y)
        norm = Norm(spec.norm, spec.norm_epsilon, spec.biases.norm, name="norm")
        y = y + FeedForward(spec, name="feedforward")(norm(y))
        pooled = jnp.where(members.any(2)[:, :, None], y.astype(jnp.float32), 0.0)
        return pooled, jnp.where(members, weights.mean(2), 0.0)
