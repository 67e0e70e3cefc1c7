"""LayerNorm (Ba et al. 2016, arXiv 1607.06450) and RMSNorm, with a backward pass of their own.

The backward pass keeps the input and two numbers a row. Left to itself it would keep, or write
out to sum over the rows, float32 arrays of twice the input's size.
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from biofm_jax.array_types import AnyArray

# The name under which a remat policy can keep the mean and scale of each row.
STATISTICS = "norm_statistics"


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
    x: AnyArray, scale: AnyArray, bias: AnyArray | None, centred: bool, epsilon: float
) -> AnyArray:
    """`x` with mean 0 (if centred) and mean square 1 over the last axes, scaled and shifted.

    Args:
        x: (..., *shape); the result has its type, the computation is in float32.
        scale: (*shape,), the axes to normalise over.
        bias: (*shape,) or None.
        centred: LayerNorm, otherwise RMSNorm.
        epsilon: added to the variance.
    """
    return _forward(x, scale, bias, centred, epsilon)[0]


def _forward(x, scale, bias, centred, epsilon):
    over = tuple(range(-scale.ndim, 0))
    y, mean = x.astype(jnp.float32), None
    if centred:
        mean = y.mean(over, keepdims=True)
        y = y - mean
    rate = jax.lax.rsqrt((y * y).mean(over, keepdims=True) + epsilon)
    y = y * rate * scale
    if bias is not None:
        y = y + bias
    kept = checkpoint_name((mean, rate), STATISTICS)
    return y.astype(x.dtype), (x, scale, bias, kept)


def _backward(centred, epsilon, saved, gradient):
    x, scale, bias, kept = saved
    # Made here again from x, the statistics could not be fused into the sums over rows.
    mean, rate = jax.lax.optimization_barrier(kept)
    over, rows = tuple(range(-scale.ndim, 0)), tuple(range(x.ndim - scale.ndim))
    y, gradient = x.astype(jnp.float32), gradient.astype(jnp.float32)
    y = (y if mean is None else y - mean) * rate
    of_scale = (gradient * y).sum(rows).astype(scale.dtype)
    of_bias = None if bias is None else gradient.sum(rows).astype(bias.dtype)
    of_y = gradient * scale
    of_x = of_y - y * (of_y * y).mean(over, keepdims=True)
    if centred:
        of_x = of_x - of_y.mean(over, keepdims=True)
    return (of_x * rate).astype(x.dtype), of_scale, of_bias


normalize.defvjp(_forward, _backward)
