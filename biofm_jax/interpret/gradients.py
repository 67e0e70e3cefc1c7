"""Attributions by gradients: integrated gradients, and saliency maps of images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from biofm_jax.errors import UserError

Score = Callable[[jax.Array], jax.Array]
COMPLETE = 0.02  # of the difference of outputs; above it the path has too few points


def integrated_gradients(
    score: Score, x: np.ndarray, baseline: np.ndarray, steps: int = 64
) -> tuple[np.ndarray, float]:
    """Attributions that add up to what the input changes about the output.

    The gradient along the straight line from baseline to input, times their difference
    (Sundararajan et al. 2017, arXiv 1703.01365, equation 1). The integral is by Gauss-Legendre,
    whose error falls faster with the number of points than that of a sum.

    Args:
        score: an array of the shape of `x` -> () output.
        x: the input.
        baseline: the input that says nothing.
        steps: points on the line.

    Returns:
        Attributions of the shape of `x`, float64, and the completeness gap: their sum minus
        score(x) - score(baseline).

    Raises:
        UserError: the gap is above 2 % of that difference and above rounding.
    """
    points, weights = np.polynomial.legendre.leggauss(steps)
    points, weights = (points + 1) / 2, weights / 2
    gradient = jax.grad(lambda z: score(z).astype(jnp.float32))
    x32, zero = jnp.asarray(x, jnp.float32), jnp.asarray(baseline, jnp.float32)

    @jax.jit
    def along(points):
        return jax.lax.map(lambda share: gradient(zero + share * (x32 - zero)), points)

    slopes = np.asarray(along(jnp.asarray(points, jnp.float32)), np.float64)
    attributions = np.tensordot(weights, slopes, 1) * (np.asarray(x, np.float64) - baseline)
    ends = [float(jax.jit(score)(end)) for end in (x32, zero)]
    gap = float(attributions.sum() - (ends[0] - ends[1]))
    rounding = 1e-4 * max(1.0, *map(abs, ends))
    if abs(gap) > max(COMPLETE * abs(ends[0] - ends[1]), rounding):
        raise UserError(
            f"with {steps} steps the attributions miss the difference of outputs "
            f"{ends[0] - ends[1]:.4g} by {gap:.2g}; give more steps"
        )
    return attributions, gap


def saliency(score: Score, image: np.ndarray) -> Float[np.ndarray, "h w"]:
    """The size of the gradient at each pixel (Simonyan et al. 2013, arXiv 1312.6034).

    Args:
        score: (h, w, c) image -> () output.
        image: (h, w, c).

    Returns:
        (h, w) the largest absolute gradient over channels.
    """
    return np.abs(_gradient(score, image)).max(-1)


def gradient_times_input(score: Score, image: np.ndarray) -> Float[np.ndarray, "h w"]:
    """(h, w) gradient times pixel value, summed over channels: signed, to first order."""
    return (_gradient(score, image) * image).sum(-1)


def smooth_grad(
    score: Score, image: np.ndarray, *, noise: float = 0.15, samples: int = 25, seed: int = 0
) -> Float[np.ndarray, "h w"]:
    """`saliency` of the mean gradient over noisy copies (Smilkov et al. 2017, arXiv 1706.03825).

    Args:
        score: (h, w, c) image -> () output.
        image: (h, w, c).
        noise: standard deviation of the Gaussian noise as a share of the image's range.
        samples: noisy copies.
        seed: of the noise.
    """
    sigma = noise * float(np.ptp(image))
    keys = jax.random.split(jax.random.key(seed), samples)

    @jax.jit
    def mean(image):
        def one(key):
            return jax.grad(score)(image + sigma * jax.random.normal(key, image.shape))

        return jax.lax.map(one, keys).mean(0)

    return np.abs(np.asarray(mean(jnp.asarray(image, jnp.float32)))).max(-1)


def points_inside(saliency_map: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float:
    """The pointing game: whether the most salient pixel lies in a mask (Zhang et al. 2018,
    doi 10.1007/s11263-017-1059-x), 0 or 1; of several with one value, the share that does."""
    if mask.shape != saliency_map.shape:
        raise UserError(f"a mask of {mask.shape} for a map of {saliency_map.shape}")
    return float(mask[saliency_map == saliency_map.max()].mean())


def _gradient(score: Score, image: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(jax.grad(score))(jnp.asarray(image, jnp.float32)))
