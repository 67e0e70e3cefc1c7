"""Targets of self-distillation: whose prototype an image or patch is, for the teacher.

Both forms look at the whole global batch, so that not all land on one prototype.
"""

import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray

LEAST = -1e9  # a logit that is none


def sinkhorn(logits: AnyArray, weights: AnyArray, rounds: int) -> jax.Array:
    """Assignments of equal use: every prototype gets the same share of all vectors.

    Sinkhorn-Knopp (Cuturi 2013; SwAV, Caron et al. 2020, arXiv:2006.09882, in DINOv2 in the place
    of centring), in logarithms: nothing underflows at low temperatures.

    Args:
        logits: (n, m) float32 over a temperature, of n vectors and m prototypes.
        weights: (n,) 1, or 0 for a vector that is none.
        rounds: each scales the columns and then the rows.

    Returns:
        (n, m) float32, rows that sum to 1, of what is none too.
    """
    there = weights[:, None] > 0
    share = jnp.log(jnp.maximum(weights.sum(), 1.0) / logits.shape[1])
    for _ in range(rounds):
        columns = jax.nn.logsumexp(jnp.where(there, logits, LEAST), axis=0, keepdims=True)
        logits = logits - columns + share
        logits = logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
    return jnp.exp(logits)


def centred(logits: AnyArray, centre: AnyArray, temperature: AnyArray) -> jax.Array:
    """Softmax behind the centre of earlier batches (DINO, section 3.1).

    Args:
        logits: (n, m) float32.
        centre: (m,), a moving average of them.
        temperature: divides the difference.
    """
    return jax.nn.softmax((logits - centre) / temperature, axis=-1)


def moved_centre(
    centre: AnyArray, logits: AnyArray, weights: AnyArray, momentum: float
) -> jax.Array:
    """The centre after a batch: the mean over its vectors, `momentum` of the old one kept.

    A batch without any leaves it where it is.
    """
    count = weights.sum()
    mean = (logits * weights[:, None]).sum(0) / jnp.maximum(count, 1.0)
    return jnp.where(count > 0, momentum * centre + (1 - momentum) * mean, centre)


def spread(vectors: AnyArray, weights: AnyArray) -> jax.Array:
    """KoLeo: minus the logarithm of the distance to the nearest other vector of the batch.

    It keeps vectors apart (Sablayrolles et al. 2019, arXiv:1806.03198; DINOv2, section 4).

    Args:
        vectors: (n, d) float32, scaled to length 1 here.
        weights: (n,) 1, or 0 for a vector that is none.

    Returns:
        (n,) float32; 0 for what is none, and in a batch of one.
    """
    scale = jax.lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + 1e-12)
    unit = vectors * scale
    there = (weights[:, None] > 0) & (weights[None, :] > 0)
    other = there & ~jnp.eye(len(vectors), dtype=bool)
    nearest = jnp.where(other, unit @ unit.T, -2.0).max(1)
    # Distance of vectors of length 1. The floor keeps the gradient of equal ones finite.
    distance = jnp.sqrt(jnp.maximum(2 - 2 * nearest, 0.0) + 1e-8)
    return jnp.where(other.any(1), -jnp.log(distance), 0.0)
