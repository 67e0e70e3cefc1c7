"""Norms, activations and look-ups with backward passes of their own, against plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from biofm_jax.models.activations import gelu
from biofm_jax.models.embedding import SMALL_ALPHABET, look_up
from biofm_jax.models.normalize import normalize

EPSILON = 1e-5


def plain(x, scale, bias, centred):
    over = tuple(range(-scale.ndim, 0))
    y = x.astype(jnp.float32)
    if centred:
        y = y - y.mean(over, keepdims=True)
    y = y * jax.lax.rsqrt((y * y).mean(over, keepdims=True) + EPSILON) * scale
    return (y if bias is None else y + bias).astype(x.dtype)


@pytest.mark.parametrize(
    "centred, biased, axes", [(True, True, 1), (True, False, 2), (False, False, 1)]
)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 1e-4)])
def test_norm_equals_plain(centred, biased, axes, dtype, tolerance):
    x = jax.random.normal(jax.random.key(0), (3, 5, 4, 16)).astype(dtype) * 2 + 1
    shape = x.shape[-axes:]
    scale = jax.random.normal(jax.random.key(1), shape)
    bias = jax.random.normal(jax.random.key(2), shape) if biased else None
    weights = jax.random.normal(jax.random.key(3), x.shape)

    def total(function, *given):
        return jnp.sum(function(*given).astype(jnp.float32) * weights)

    ours = lambda *given: normalize(*given, centred, EPSILON)  # noqa: E731
    theirs = lambda *given: plain(*given, centred)  # noqa: E731
    np.testing.assert_array_equal(ours(x, scale, bias), theirs(x, scale, bias))
    wanted = (1, 2, 3) if biased else (1, 2)
    mine, other = (jax.grad(total, wanted)(f, x, scale, bias) for f in (ours, theirs))
    for a, b in zip(mine, other, strict=True):
        a, b = (np.asarray(y, np.float64) for y in (a, b))
        assert np.linalg.norm(a - b) < tolerance * np.linalg.norm(b)


def test_short_gelu_rounds_once():
    """In bfloat16 value and slope are those of float32, to the last bit of the rounding."""
    x = (jax.random.normal(jax.random.key(0), (1000,)) * 2).astype(jnp.bfloat16)
    wide = x.astype(jnp.float32)
    np.testing.assert_allclose(gelu(x).astype(jnp.float32), gelu(wide), rtol=2**-8, atol=1e-6)
    slope = jax.vmap(jax.grad(gelu))
    np.testing.assert_allclose(slope(x).astype(jnp.float32), slope(wide), rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("rows", [33, SMALL_ALPHABET + 1])
def test_look_up_equals_indexing(rows):
    table = jax.random.normal(jax.random.key(0), (rows, 8))
    tokens = jax.random.randint(jax.random.key(1), (4, 50), 0, rows)
    weights = jax.random.normal(jax.random.key(2), (4, 50, 8))
    np.testing.assert_array_equal(look_up(table, tokens), table[tokens])
    ours = jax.grad(lambda table: jnp.sum(look_up(table, tokens) * weights))(table)
    theirs = jax.grad(lambda table: jnp.sum(table[tokens] * weights))(table)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_gradient_of_a_small_alphabet_is_summed_in_float32():
    """4,096 ones of one token: a sum in bfloat16 would stop at 256."""
    table, tokens = jnp.zeros((33, 2), jnp.bfloat16), jnp.full((4, 1024), 5, jnp.int32)
    gradient = jax.grad(lambda table: jnp.sum(look_up(table, tokens).astype(jnp.float32)))(table)
    np.testing.assert_array_equal(gradient[5].astype(jnp.float32), 4096.0)
