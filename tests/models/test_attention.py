"""Every backend against plain attention, values and gradients."""

import itertools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.models import attention as attention_module
from biofm_jax.models.attention import attention, reference_attention
from biofm_jax.models.attention_fused import FUSED_ATTENTION, cudnn, segment_spans
from biofm_jax.models.positions import Alibi, Relative, distance_bias

B, T, H, D = 2, 150, 4, 8  # three blocks of 64 queries, the last one not full


def inputs(length=T, heads=H, kv_heads=H, width=D, dtype=jnp.float32):
    shapes = [(B, length, n, width) for n in (heads, kv_heads, kv_heads)]
    q, k, v = (jax.random.normal(jax.random.key(i), shape, dtype) for i, shape in enumerate(shapes))
    segments = np.zeros((B, length), np.int32)
    segments[0, : length // 3], segments[0, length // 3 : length - 7] = 1, 2
    segments[1, : length - 1] = 1
    return q, k, v, jnp.asarray(segments)


def loss_of(function, segments, **options):
    """A scalar of the outputs of real queries, of which every gradient is interesting."""

    def loss(q, k, v, bias):
        out = function(q, k, v, segments, distance_bias=bias, **options)
        return jnp.sum(jnp.sin(out.astype(jnp.float32)) * (segments > 0)[:, :, None, None])

    return loss


def plain(*args, **options):
    return reference_attention(*args, **options)[0]


@pytest.mark.parametrize(
    "causal, window, biased, kv_heads",
    [
        (False, None, False, H),
        (False, None, True, 2),
        (False, 20, False, 1),
        (True, None, False, 2),
        (True, 20, True, H),
    ],
)
def test_lean_equals_reference(causal, window, biased, kv_heads):
    q, k, v, segments = inputs(kv_heads=kv_heads)
    bias = jax.random.normal(jax.random.key(7), (H, 2 * T - 1)) if biased else None
    options = dict(causal=causal, window=window)
    expected = plain(q, k, v, segments, distance_bias=bias, **options)
    out = attention(q, k, v, segments, distance_bias=bias, backend="xla", **options)
    real = np.asarray(segments > 0)
    np.testing.assert_allclose(np.asarray(out)[real], np.asarray(expected)[real], atol=2e-6)
    assert np.isfinite(out).all()

    wanted = (0, 1, 2, 3) if biased else (0, 1, 2)
    ours = jax.jit(jax.grad(loss_of(attention, segments, backend="xla", **options), wanted))
    theirs = jax.jit(jax.grad(loss_of(plain, segments, **options), wanted))
    for mine, other in zip(ours(q, k, v, bias), theirs(q, k, v, bias), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5)


def test_reference_is_softmax_within_segments():
    """The measure itself, against a loop over queries in NumPy."""
    q, k, v, segments = inputs(length=12)
    out = np.asarray(plain(q, k, v, segments, causal=True, window=3))
    q, k, v, segments = (np.asarray(x) for x in (q, k, v, segments))
    for b, i, h in itertools.product(range(B), range(12), range(H)):
        seen = [j for j in range(max(0, i - 3), i + 1) if segments[b, j] == segments[b, i]]
        logits = k[b, seen, h] @ q[b, i, h] / np.sqrt(D)
        weights = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(out[b, i, h], weights @ v[b, seen, h], atol=1e-5)


def test_padding_reaches_nothing():
    q, k, v, segments = inputs()
    gradient = jax.grad(loss_of(attention, segments, backend="xla"), (0, 1, 2))(q, k, v, None)
    padding = np.asarray(segments == 0)
    for part in gradient:
        assert np.all(np.asarray(part)[padding] == 0.0)


def test_dropout_bits_do_not_depend_on_blocks():
    q, k, v, segments = inputs(kv_heads=2)
    keys = jax.random.split(jax.random.key(3), B)
    options = dict(dropout=0.3, keys=keys)
    ours = jax.jit(jax.grad(loss_of(attention, segments, backend="xla", **options), (0, 1, 2)))
    theirs = jax.jit(jax.grad(loss_of(plain, segments, **options), (0, 1, 2)))
    for mine, other in zip(ours(q, k, v, None), theirs(q, k, v, None), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5)
    dropped = attention(q, k, v, segments, backend="xla", **options)
    assert not np.allclose(dropped, attention(q, k, v, segments, backend="xla"), atol=1e-2)
    rows = attention(q[1:], k[1:], v[1:], segments[1:], backend="xla", dropout=0.3, keys=keys[1:])
    np.testing.assert_allclose(dropped[1:], rows, atol=1e-6)


@pytest.mark.parametrize("causal, window, kv_heads", [(False, None, 4), (True, None, 2)])
def test_splash_equals_reference(causal, window, kv_heads):
    """The TPU kernel, interpreted."""
    q, k, v, segments = inputs(length=256, kv_heads=kv_heads, width=128)
    options = dict(causal=causal, window=window)
    ours = jax.value_and_grad(loss_of(attention, segments, backend="splash", **options), (0, 1, 2))
    theirs = jax.value_and_grad(loss_of(plain, segments, **options), (0, 1, 2))
    (value, gradients), (expected, others) = ours(q, k, v, None), theirs(q, k, v, None)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    for mine, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def test_backend_asked_for_is_never_replaced():
    q, k, v, segments = inputs()
    with pytest.raises(UserError, match=r'backend="cudnn" needs an NVIDIA GPU'):
        attention(q, k, v, segments, backend="cudnn")
    with pytest.raises(UserError, match="multiple of 128"):
        attention(q, k, v, segments, backend="splash")
    q, k, v, segments = inputs(length=128)
    bias = distance_bias(Alibi(), None, heads=H, length=128, causal=False)
    with pytest.raises(UserError, match="ALiBi"):
        attention(q, k, v, segments, distance_bias=bias, backend="splash")


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("examples", [2, None], ids=["packed", "mask"])
@pytest.mark.parametrize("causal, kv_heads", [(False, H), (True, H), (False, 2)])
def test_cudnn_equals_reference(causal, kv_heads, examples):
    """Rows of two examples and padding, relative to float32: bfloat16 rounds at 2e-3."""
    q, k, v, segments = inputs(length=640, kv_heads=kv_heads, width=64, dtype=jnp.bfloat16)
    options = dict(backend="cudnn", causal=causal, examples=examples)
    ours = jax.grad(loss_of(attention, segments, **options), (0, 1, 2))(q, k, v, None)
    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    with jax.default_matmul_precision("highest"):
        theirs = jax.grad(loss_of(plain, segments, causal=causal), (0, 1, 2))(*wide, None)
    for mine, other in zip(ours, theirs, strict=True):
        assert jnp.isfinite(mine).all()
        assert jnp.linalg.norm(mine - other) < 1e-2 * jnp.linalg.norm(other)


def test_spans_of_packed_rows():
    """Padding is the last span; empty slots are -1, as cuDNN wants them."""
    segments = jnp.array([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1]], jnp.int32)
    starts, lengths = segment_spans(segments, 4)
    np.testing.assert_array_equal(starts, [[0, 2, -1, 5], [0, -1, -1, -1]])
    np.testing.assert_array_equal(lengths, [[2, 3, -1, 1], [6, -1, -1, -1]])


def test_remat_knows_fused_attention_by_name():
    """JAX may rename what is private; remat "dots" would then run attention twice."""
    assert cudnn._dot_product_attention_fwd_p_wrapper.name.startswith(FUSED_ATTENTION)


def test_choice_is_logged_once(caplog):
    q, k, v, segments = inputs(length=11)
    attention_module.log_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="biofm_jax"):
        for _ in range(2):
            attention(q, k, v, segments)
    assert [r.message for r in caplog.records] == [
        "attention backend: xla on cpu (float32, 11 tokens, heads of 8)"
    ]


def test_memory_is_linear_in_length():
    """Temporaries of the backward pass from 2,048 to 4,096 tokens: twice, not four times."""

    def temporaries(length):
        q = jax.ShapeDtypeStruct((1, length, 1, 8), jnp.float32)
        segments = jax.ShapeDtypeStruct((1, length), jnp.int32)

        def loss(q, segments):
            return jnp.sum(attention(q, q, q, segments, backend="xla") ** 2)

        compiled = jax.jit(jax.grad(loss)).lower(q, segments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = temporaries(2048), temporaries(4096)
    assert long < 2.2 * short
    assert long < 4096 * 4096 * 4 / 4


def test_alibi_slopes_published():
    """Eight heads: 1/2 ... 1/256; the rest of twelve from the next series (Press et al.)."""
    bias = np.asarray(distance_bias(Alibi(), None, heads=8, length=2, causal=True))
    np.testing.assert_allclose(bias[:, 2], [-(2.0**-i) for i in range(1, 9)])
    twelve = np.asarray(distance_bias(Alibi(), None, heads=12, length=2, causal=True))[:, 2]
    np.testing.assert_allclose(twelve[8:], [-(2.0**-i) for i in (0.5, 1.5, 2.5, 3.5)])


@pytest.mark.parametrize("causal", [False, True])
def test_relative_buckets(causal):
    """Near differences have buckets of their own, far ones share the last."""
    relative = Relative(buckets=8, distance=16)
    table = jnp.arange(8.0)[:, None]
    bias = distance_bias(relative, table, heads=1, length=40, causal=causal)[0]
    behind = np.asarray(bias)[39:]
    assert behind[0] == 0 and behind[1] == 1
    assert behind[-1] == (7 if causal else 3) and np.all(np.diff(behind) >= 0)
    ahead = np.asarray(bias)[:39]
    assert np.all(ahead == 0) if causal else (ahead[-1] == 5 and ahead[0] == 7)
