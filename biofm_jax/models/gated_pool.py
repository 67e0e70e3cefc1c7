"""Pooling by gated attention (Ilse et al. 2018, arXiv:1802.04712, equations 7 and 9)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, Hidden, Pooled
from biofm_jax.data.batch import Batch
from biofm_jax.models.layers import Dense


class GatedPool(nn.Module):
    """The weighted mean of an example's tokens, and the weights.

    `a_k = softmax_k(w (tanh(V h_k) * sigmoid(U h_k)))`, `z = sum_k a_k h_k`.

    Attributes:
        width: of the tokens.
        gate: rows of V and of U.
        std: of the initial weights.
    """

    width: int
    gate: int
    std: float

    @nn.compact
    def __call__(self, hidden: Hidden, batch: Batch) -> tuple[Pooled, Float[ArrayLike, "b s t"]]:
        axes = ("embed", None, None)
        both = Dense((self.width, 2, self.gate), axes, self.std, True, name="gate")(hidden)
        gated = jnp.tanh(both[:, :, 0]) * jax.nn.sigmoid(both[:, :, 1])
        score = Dense((self.gate, 1), (None, None), self.std, False, name="score")(gated)
        return weighted_mean(score[:, :, 0], hidden, batch)


def weighted_mean(
    scores: Float[ArrayLike, "b t"], values: Hidden, batch: Batch
) -> tuple[Pooled, Float[ArrayLike, "b s t"]]:
    """The mean of values by the softmax of scores over each packed example's tokens.

    Args:
        scores: (b, t).
        values: (b, t, d).
        batch: says which token is whose.

    Returns:
        (b, s, d) float32 and the weights (b, s, t) float32; zeros for an empty slot.
    """
    slots = jnp.arange(1, batch.examples.shape[1] + 1)
    members = batch.segment_ids[:, None, :] == slots[:, None]
    scores = jnp.where(members, scores[:, None].astype(jnp.float32), -1e30)
    weights = jnp.where(members, jax.nn.softmax(scores, axis=-1), 0.0)
    return jnp.einsum("bst,btd->bsd", weights, values.astype(jnp.float32)), weights
