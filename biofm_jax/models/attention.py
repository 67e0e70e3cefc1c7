"""Attention within packed examples: one function, several backends.

Every backend computes `softmax(scale * q k^T + bias) v` over the keys of the query's own
example. Padding (segment 0) attends to padding only, so it is finite and reaches no example.
"""

import functools
import logging
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from biofm_jax.array_types import ArrayLike, Heads, Tokens, typed
from biofm_jax.errors import UserError
from biofm_jax.models.api import platform
from biofm_jax.models.attention_fused import (
    cudnn_attention,
    cudnn_refusal,
    packed_refusal,
    splash_attention,
    splash_refusal,
)
from biofm_jax.models.attention_lean import MASKED, allowed, drop_weights, lean_attention

Backend = Literal["auto", "xla", "cudnn", "splash", "reference"]
KeyHeads = Float[ArrayLike, "b t kv d"]
DistanceBias = Float[ArrayLike, "h differences"]

# On Hopper, cuDNN's fused kernel is reported to gain nothing on rows of up to 512 tokens.
CUDNN_FROM_TOKENS = 513

logger = logging.getLogger("biofm_jax")


@typed
def attention(
    q: Heads,
    k: KeyHeads,
    v: KeyHeads,
    segment_ids: Tokens,
    *,
    causal: bool = False,
    window: int | jax.Array | None = None,
    distance_bias: DistanceBias | None = None,
    scale: float | None = None,
    backend: Backend = "auto",
    dropout: float = 0.0,
    keys: jax.Array | None = None,
    examples: int | None = None,
) -> Heads:
    """Multi-head attention that keeps packed examples apart.

    Args:
        q: (b, t, h, d) queries.
        k: (b, t, kv, d) keys; each of the kv heads serves h / kv query heads in a row.
        v: (b, t, kv, d) values.
        segment_ids: (b, t) int32; a query sees keys of its own segment only.
        causal: keys behind or at the query only.
        window: keys at most this many tokens away only; may be traced, of layers that differ.
        distance_bias: (h, 2t - 1) added to the logits by `query - key + t - 1`.
        scale: of the logits; 1 / sqrt(d) by default.
        backend: "auto" chooses by platform, type and length, and logs the choice once.
            "xla" runs anywhere with memory linear in t; "cudnn" and "splash" are the fused
            kernels of NVIDIA GPUs and of TPUs; "reference" holds all t x t weights.
        dropout: probability of dropping an attention weight, used where `keys` are given.
        keys: (b,) PRNG keys, one per row.
        examples: the most examples in a row, numbered from 1, each in one piece, padding
            behind them all; cuDNN then does the work of the examples only. None: unknown.

    Returns:
        (b, t, h, d) in the type of `q`; the softmax is taken in float32.

    Raises:
        UserError: the backend asked for cannot serve these arguments. There is no fallback.
    """
    rate = 0.0 if keys is None else dropout
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    refusals = {
        "cudnn": functools.partial(cudnn_refusal, q, dropout=rate),
        "splash": functools.partial(splash_refusal, q, distance_bias, window, dropout=rate),
    }
    if backend == "auto":
        backend = _choose(q, refusals)
    elif backend in refusals and (why := refusals[backend]()):
        raise UserError(f'attention backend="{backend}" {why}; use backend="auto" or "xla"')
    options = dict(causal=causal, window=window, distance_bias=distance_bias, scale=scale)
    match backend:
        case "cudnn":
            if why := packed_refusal(q, k, window, distance_bias, examples):
                log_once(f"cudnn attention does the work of full rows: {why}")
            return cudnn_attention(q, k, v, segment_ids, **options, examples=examples)
        case "splash":
            return splash_attention(q, k, v, segment_ids, causal, window, scale)
        case "reference":
            return reference_attention(q, k, v, segment_ids, **options, dropout=rate, keys=keys)[0]
    return lean_attention(q, k, v, segment_ids, **options, dropout=rate, keys=keys)


def reference_attention(
    q: Heads,
    k: KeyHeads,
    v: KeyHeads,
    segment_ids: Tokens,
    *,
    causal: bool = False,
    window: int | jax.Array | None = None,
    distance_bias: DistanceBias | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    keys: jax.Array | None = None,
    key_segment_ids: Tokens | None = None,
) -> tuple[Heads, Float[ArrayLike, "b h t u"]]:
    """Plain attention, the measure of the backends, which also returns its weights.

    Args and result are those of `attention`; the weights are (b, h, t, t) float32, before
    dropout. With `key_segment_ids` (b, u) the keys and values are of another row, of u tokens,
    without causal mask, window or bias.
    """
    length, group = q.shape[1], q.shape[2] // k.shape[2]
    k, v = (jnp.repeat(x, group, axis=2) for x in (k, v))
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5 if scale is None else scale
    if distance_bias is not None:
        index = jnp.arange(length)
        logits += distance_bias[:, index[:, None] - index + length - 1]
    key_segments = segment_ids if key_segment_ids is None else key_segment_ids
    mask = allowed(segment_ids, key_segments, 0, causal, window)
    weights = jax.nn.softmax(jnp.where(mask[:, None], logits, MASKED), axis=-1)
    used = drop_weights(weights, 0, dropout, keys).astype(v.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", used, v), weights


def _choose(q: Heads, refusals: dict) -> str:
    length = q.shape[1]
    choice, why = "xla", f"on {platform()}"
    fused = {"gpu": "cudnn", "tpu": "splash"}.get(platform())
    if fused and (refusal := refusals[fused]()):
        why = f"because {fused} {refusal}"
    elif fused == "cudnn" and length < CUDNN_FROM_TOKENS:
        why = f"because rows of {length} tokens gain nothing from cudnn"
    elif fused:
        choice = fused
    log_once(
        f"attention backend: {choice} {why} ({jnp.dtype(q.dtype).name}, {length} tokens, "
        f"heads of {q.shape[-1]})"
    )
    return choice


@functools.cache
def log_once(message: str) -> None:
    """Log a choice the first time it is made."""
    logger.info(message)
