"""Attention through the fused kernels of NVIDIA GPUs (cuDNN) and of TPUs (splash)."""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel,
    splash_attention_mask,
)

from biofm_jax.array_types import Heads, Tokens
from biofm_jax.models.api import per_shard

# Splash takes blocks of whole vector registers: 128 lanes.
LANES = 128


def cudnn_refusal(q: Heads, *, dropout: float) -> str:
    """Why cuDNN cannot serve these queries; empty where it can."""
    if jax.default_backend() != "gpu":
        return f"needs an NVIDIA GPU, this is {jax.default_backend()}"
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"needs bfloat16 or float16, not {q.dtype}"
    if q.shape[-1] > 128 or q.shape[-1] % 8:
        return f"needs a head width that is a multiple of 8 up to 128, not {q.shape[-1]}"
    if dropout > 0.0:
        return "has no dropout on the weights"
    return ""


def cudnn_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    segment_ids: Tokens,
    *,
    causal: bool,
    window: int | jax.Array | None,
    distance_bias: jax.Array | None,
    scale: float,
) -> Heads:
    """`attention` by cuDNN; the mask (b, 1, t, t) is the only array quadratic in t."""
    index = jnp.arange(q.shape[1])
    difference = index[:, None] - index
    mask = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    if window is not None:
        mask &= abs(difference) <= window
    bias = None
    if distance_bias is not None:
        bias = distance_bias[:, difference + q.shape[1] - 1][None].astype(q.dtype)
    return jax.nn.dot_product_attention(
        q, k, v, bias, mask, scale=scale, is_causal=causal, implementation="cudnn"
    )


def splash_refusal(
    q: Heads,
    distance_bias: jax.Array | None,
    window: int | jax.Array | None,
    *,
    dropout: float,
) -> str:
    """Why splash attention cannot serve these queries; empty where it can.

    Off a TPU it is interpreted, which is slow and meant for tests.
    """
    if distance_bias is not None:
        return "has no ALiBi or relative positions"
    if isinstance(window, jax.Array):
        return "has one window for all layers"
    if q.shape[1] % LANES:
        return f"needs rows of a multiple of {LANES} tokens, not {q.shape[1]}"
    if dropout > 0.0:
        return "has no dropout on the weights"
    return ""


def splash_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    segment_ids: Tokens,
    causal: bool,
    window: int | None,
    scale: float,
) -> Heads:
    """`attention` by the TPU's splash kernel, on each device's rows and heads."""

    def on_shard(q, k, v, segment_ids):
        kernel = _splash_kernel(q.shape[2], q.shape[1], causal, window)

        def row(q, k, v, segments):
            q, k, v = (x.swapaxes(0, 1) for x in (q * scale, k, v))
            ids = splash_attention_kernel.SegmentIds(q=segments, kv=segments)
            return kernel(q, k, v, segment_ids=ids).swapaxes(0, 1)

        return jax.vmap(row)(q, k, v, segment_ids)

    heads = ("batch", None, "heads", None)
    return per_shard(on_shard, (heads, heads, heads, ("batch", None)), heads)(q, k, v, segment_ids)


def _splash_kernel(heads: int, length: int, causal: bool, window: int | None):
    shape = (length, length)
    if window is not None:
        mask = splash_attention_mask.LocalMask(shape, (window, 0 if causal else window), 0)
    elif causal:
        mask = splash_attention_mask.CausalMask(shape)
    else:
        mask = splash_attention_mask.FullMask(shape)
    block = next(size for size in (512, 384, 256, LANES) if length % size == 0)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    return splash_attention_kernel.make_splash_mha_single_device(
        splash_attention_mask.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        interpret=jax.default_backend() != "tpu",
    )
