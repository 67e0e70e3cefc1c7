"""Attention through the fused kernels of NVIDIA GPUs (cuDNN) and of TPUs (splash)."""

import jax
import jax.numpy as jnp

# The public jax.nn.dot_product_attention has no packed rows.
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel,
    splash_attention_mask,
)

from biofm_jax.array_types import Heads, Tokens
from biofm_jax.models.api import gather_tokens, parts, per_shard, platform, unsharded
from biofm_jax.models.attention_sharded import HEADS, TOKENS, shared_key_heads

# How the name of cuDNN's forward pass begins as a JAX primitive.
FUSED_ATTENTION = "dot_product_attention_fwd"

# Splash takes blocks of whole vector registers: 128 lanes.
LANES = 128


def cudnn_refusal(q: Heads, *, dropout: float) -> str:
    """Why cuDNN cannot serve these queries; empty where it can."""
    if platform() != "gpu":
        return f"needs an NVIDIA GPU, this is {platform()}"
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"needs bfloat16 or float16, not {q.dtype}"
    if q.shape[-1] > 128 or q.shape[-1] % 8:
        return f"needs a head width that is a multiple of 8 up to 128, not {q.shape[-1]}"
    if parts("tokens", q.shape[1]) > 1:
        return "needs rows that lie whole on a device (mesh.context 1)"
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
    examples: int | None,
) -> Heads:
    """`attention` by cuDNN, example by example.

    Where `packed_refusal` has a reason, a mask (b, 1, t, t) keeps examples apart: the only array
    quadratic in t, and the work of full rows.
    """
    if not packed_refusal(q, k, window, distance_bias, examples):
        return _cudnn_packed(q, k, v, segment_ids, causal, scale, examples)
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


def packed_refusal(
    q: Heads,
    k: Heads,
    window: int | jax.Array | None,
    distance_bias: jax.Array | None,
    examples: int | None,
) -> str:
    """Why cuDNN cannot take each example of a row as a sequence of its own; empty where it can."""
    if window is not None or distance_bias is not None:
        return "it has no window and no bias between packed examples"
    if examples is None:
        return "the number of examples in a row is unknown"
    if k.shape != q.shape:
        return "JAX before 0.11 mistakes the places of shared key heads in packed rows"
    if not cudnn.check_compute_capability("9.0"):
        return "packed rows need a Hopper GPU or a later one"
    return ""


def _cudnn_packed(
    q: Heads, k: Heads, v: Heads, segment_ids: Tokens, causal: bool, scale: float, examples: int
) -> Heads:
    """Each example as a sequence of its own, and so the padding: cuDNN writes no other rows."""
    mask = cudnn.MaskType.PADDING_CAUSAL if causal else cudnn.MaskType.PADDING

    def on_shard(q, k, v, segment_ids):
        starts, lengths = segment_spans(segment_ids, examples + 1)
        offsets = jnp.pad(starts, ((0, 0), (0, 1)), constant_values=-1)
        return cudnn.dot_product_attention(
            q, k, v, None, None, lengths, lengths, offsets, offsets, scale=scale, mask_type=mask
        )

    if unsharded():
        return on_shard(q, k, v, segment_ids)
    return per_shard(on_shard, (HEADS, HEADS, HEADS, TOKENS), HEADS)(q, k, v, segment_ids)


def segment_spans(segment_ids: Tokens, segments: int) -> tuple[jax.Array, jax.Array]:
    """First token and length of segments 1, 2, ..., 0 of a row, (b, segments); -1 for none."""
    members = segment_ids[:, :, None] == (jnp.arange(segments) + 1) % segments
    lengths = members.sum(1, dtype=jnp.int32)
    starts = jnp.argmax(members, axis=1).astype(jnp.int32)
    return jnp.where(lengths > 0, starts, -1), jnp.where(lengths > 0, lengths, -1)


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
    run = q.shape[1] // parts("tokens", q.shape[1])
    if run % LANES:
        return f"needs a multiple of {LANES} tokens of a row on each device, not {run}"
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
    """`attention` by the TPU's splash kernel, on each device's queries and heads."""
    (_, t, h, _), runs = q.shape, parts("tokens", q.shape[1])
    kernel = _splash_kernel(h // parts("heads", h), t, runs, causal, window)
    # Where it matters which queries a device has, the mask is cut as they are.
    cut = "tokens" if causal or window is not None else None
    by_part = {"partial_mask_blocks": (None, None, None), "q_sequence": (cut,)}
    paths, tree = jax.tree.flatten_with_path(kernel)
    leaves = [leaf for _, leaf in paths]
    names = [by_part.get(path[-1].name, (None, cut, None)) for path, _ in paths]

    def on_shard(q, k, v, segment_ids, *mask):
        kernel, key_segment_ids = tree.unflatten(mask), segment_ids
        if runs > 1:
            k, v, key_segment_ids = (gather_tokens(x) for x in (k, v, segment_ids))

        def row(q, k, v, segments, key_segments):
            q, k, v = (x.swapaxes(0, 1) for x in (q * scale, k, v))
            ids = splash_attention_kernel.SegmentIds(q=segments, kv=key_segments)
            return kernel(q, k, v, segment_ids=ids).swapaxes(0, 1)

        return jax.vmap(row)(q, k, v, segment_ids, key_segment_ids)

    k, v = shared_key_heads(q, k, v)
    inputs = (HEADS, HEADS, HEADS, TOKENS, *names)
    return per_shard(on_shard, inputs, HEADS)(q, k, v, segment_ids, *leaves)


def _splash_kernel(heads: int, length: int, runs: int, causal: bool, window: int | None):
    shape, run, cuts = (length, length), length // runs, runs
    if window is not None:
        mask = splash_attention_mask.LocalMask(
            shape, (window, 0 if causal else window), 0, shard_count=runs
        )
    elif causal:
        mask = splash_attention_mask.CausalMask(shape, shard_count=runs)
    else:
        mask, cuts = splash_attention_mask.FullMask((run, length)), 1
    block = _block(run)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    return splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        interpret=platform() != "tpu",
        head_shards=1,
        q_seq_shards=cuts,
    )


def visited_share(tokens: int, causal: bool, window: int | None) -> float:
    """Share of a row's pairs of tokens that splash attention computes: whole blocks.

    Args:
        tokens: of a row.
        causal: as of `attention`.
        window: as of `attention`.
    """
    block = _block(tokens)
    count = tokens // block
    visited = 0
    for query in range(count):
        for key in range(count):
            apart = max(0, (abs(query - key) - 1) * block + 1) if query != key else 0
            visited += (key <= query or not causal) and apart <= (window or tokens)
    return visited / count**2


def _block(tokens: int) -> int:
    """The side of a block of pairs; of a row that splash does not take, the row."""
    return next((size for size in (512, 384, 256, LANES) if tokens % size == 0), tokens)
