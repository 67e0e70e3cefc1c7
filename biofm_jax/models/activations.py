"""The activations of feed-forward layers and heads."""

import math

import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray


def gelu(x: AnyArray) -> AnyArray:
    """Exact GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415).

    With erf: jax.nn.gelu goes through erfc, which takes XLA's CPU backend twice as long.
    """
    if x.dtype == jnp.float32:
        return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))
    return _short_gelu(x)


@jax.custom_vjp
def _short_gelu(x):
    """Of a 16-bit type: each step in float32, one rounding at the end, and x alone is kept."""
    wide = x.astype(jnp.float32)
    return (wide * _below(wide)).astype(x.dtype)


def _below(x):
    """The chance that a normal deviate is below x."""
    return 0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5))


def _short_gelu_backward(x, gradient):
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * wide * wide) * (2 * math.pi) ** -0.5
    slope = _below(wide) + wide * density
    return ((gradient.astype(jnp.float32) * slope).astype(x.dtype),)


_short_gelu.defvjp(lambda x: (_short_gelu(x), x), _short_gelu_backward)

ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
