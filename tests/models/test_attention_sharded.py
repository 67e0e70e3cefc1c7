"""Attention on devices that split rows, heads and tokens, against plain attention on one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.models.api import partitioned
from biofm_jax.models.attention import attention, reference_attention
from biofm_jax.models.cross_attention import cross_attention
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.partitioner import Partitioner

B, H, D = 2, 4, 8


def inputs(length, kv_heads=H, width=D):
    shapes = [(B, length, n, width) for n in (H, kv_heads, kv_heads)]
    q, k, v = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes))
    segments = np.zeros((B, length), np.int32)
    segments[0, : length // 3], segments[0, length // 3 : length - 7] = 1, 2
    segments[1, : length - 1] = 1
    return q, k, v, jnp.asarray(segments)


def on_mesh(function, sizes):
    """`function` jitted for a mesh of (data, fsdp, tensor, context)."""
    mesh = MeshSpec(*sizes).build(jax.devices()[: int(np.prod(sizes))])

    def run(*arguments):
        with partitioned(Partitioner(mesh)):
            return function(*arguments)

    return jax.jit(run)


def output_and_gradients(function, segments, **options):
    """(q, k, v, bias) -> the real queries' outputs, and the gradients of a function of them."""

    def loss(q, k, v, bias):
        out = function(q, k, v, segments, distance_bias=bias, **options)
        out *= (segments > 0)[:, :, None, None]
        return jnp.sum(jnp.sin(out)), out

    def run(*arguments):
        gradients, out = jax.grad(loss, (0, 1, 2), has_aux=True)(*arguments)
        return out, *gradients

    return run


@pytest.mark.parametrize("sizes", [(1, 1, 1, 8), (1, 2, 2, 2), (1, 1, 4, 2)], ids=str)
@pytest.mark.parametrize(
    ("causal", "window", "kv_heads", "biased", "rate"),
    [(False, None, H, False, 0.3), (True, None, 2, True, 0.0), (True, 5, 1, False, 0.3)],
)
def test_every_cut_equals_one_device(sizes, causal, window, kv_heads, biased, rate):
    q, k, v, segments = inputs(48, kv_heads)
    bias = jax.random.normal(jax.random.key(9), (H, 95)) if biased else None
    options = dict(causal=causal, window=window, dropout=rate)
    options["keys"] = jax.random.split(jax.random.key(3), B)
    ours = on_mesh(output_and_gradients(attention, segments, backend="xla", **options), sizes)

    def plain(*args, **options):
        return reference_attention(*args, **options)[0]

    theirs = output_and_gradients(plain, segments, **options)
    for mine, other in zip(ours(q, k, v, bias), theirs(q, k, v, bias), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 2), (1, 1, 2, 4)], ids=str)
@pytest.mark.parametrize(
    ("causal", "window", "kv_heads"),
    [(False, None, H), (False, 200, H), (True, None, 1), (True, 200, 2)],
)
def test_splash_cut_by_tokens_equals_one_device(sizes, causal, window, kv_heads):
    """The TPU kernel, interpreted: each device knows which keys its own queries may see."""
    q, k, v, segments = inputs(512, kv_heads, width=128)
    options = dict(causal=causal, window=window, backend="splash")
    ours = on_mesh(output_and_gradients(attention, segments, **options), sizes)
    theirs = output_and_gradients(attention, segments, **(options | {"backend": "xla"}))
    for mine, other in zip(ours(q, k, v, None), theirs(q, k, v, None), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-4)


def test_a_learned_bias_gets_the_gradient_of_all_devices():
    q, k, v, segments = inputs(32)
    bias = jax.random.normal(jax.random.key(9), (H, 63))

    def loss(bias):
        out = attention(q, k, v, segments, distance_bias=bias, backend="xla")
        return jnp.sum(jnp.sin(out) * (segments > 0)[:, :, None, None])

    here = on_mesh(jax.grad(loss), (2, 1, 2, 2))(bias)
    np.testing.assert_allclose(here, jax.grad(loss)(bias), atol=1e-5)


def test_cross_attention_gathers_the_other_row():
    q, _, _, segments = inputs(32)
    _, k, v, others = inputs(64, kv_heads=2)

    def run(q, k, v):
        return cross_attention(q, k, v, segments, others)[0]

    np.testing.assert_allclose(on_mesh(run, (1, 1, 4, 2))(q, k, v), run(q, k, v), atol=1e-5)


def test_no_device_holds_a_square_of_the_row():
    """Temporaries of a device from 2,048 to 4,096 tokens: twice, not four times."""

    def temporaries(length):
        q = jax.ShapeDtypeStruct((1, length, 1, 8), jnp.float32)
        segments = jax.ShapeDtypeStruct((1, length), jnp.int32)

        def loss(q, segments):
            return jnp.sum(attention(q, q, q, segments, backend="xla") ** 2)

        compiled = on_mesh(jax.grad(loss), (1, 1, 1, 8)).lower(q, segments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(4096) < 2.2 * temporaries(2048)


def test_cudnn_wants_whole_rows(monkeypatch):
    monkeypatch.setattr(Partitioner, "platform", "gpu")
    q, k, v, segments = (x.astype(jnp.bfloat16) if x.ndim == 4 else x for x in inputs(64))

    def run(q, k, v):
        return attention(q, k, v, segments, backend="cudnn")

    with pytest.raises(UserError, match=r"mesh\.context 1"):
        on_mesh(run, (1, 1, 1, 2))(q, k, v)
