"""Attention in plain XLA with memory linear in the length of a row.

Queries are taken block by block, and each block's weights are made again in the backward
pass from the log of their sum, as in FlashAttention (Dao et al. 2022, arXiv 2205.14135), so that
t x t weights never exist at once. On a CPU this is also 1.7 times as fast as keeping them: a block
stays in cache. No array as large as the weights is ever transposed: keys and values are kept
as (d, t), and their gradients are made that way round.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from biofm_jax.array_types import ArrayLike, Heads, Tokens
from biofm_jax.models.api import platform
from biofm_jax.models.attention_sharded import on_shards
from biofm_jax.models.dropout import fold_rows_in, kept

# Below any logit, yet finite: `exp` of a difference to it is 0, never NaN.
MASKED = -1e30


def allowed(
    query_segments: Tokens,
    key_segments: Tokens,
    start: int | jax.Array,
    causal: bool,
    window: int | jax.Array | None,
) -> Bool[ArrayLike, "b n t"]:
    """Which of the row's t keys each of n queries, from index `start` on, may see.

    Every query may see itself, so no row of the softmax is empty.
    """
    mask = query_segments[:, :, None] == key_segments[:, None, :]
    if causal or window is not None:
        query = start + jnp.arange(query_segments.shape[1])[:, None]
        key = jnp.arange(key_segments.shape[1])
        if causal:
            mask &= key <= query
        if window is not None:
            mask &= abs(query - key) <= window
    return mask


def drop_weights(
    weights: Float[ArrayLike, "b h n t"],
    start: int | jax.Array,
    rate: float,
    keys: jax.Array | None,
    heads: Int32[ArrayLike, "h"] | None = None,
) -> Float[ArrayLike, "b h n t"]:
    """Dropout on attention weights.

    There is a key per row, head and query: neither blocks nor devices matter.

    Args:
        weights: of n queries, from index `start` of the row on.
        start: see there.
        rate: probability of dropping.
        keys: (b,) of the rows; None: nothing is dropped.
        heads: the numbers of the heads; None: 0, 1, ...
    """
    if keys is None or rate == 0.0:
        return weights
    _, h, n, t = weights.shape
    heads = jnp.arange(h) if heads is None else heads
    by_head = jax.vmap(fold_rows_in, (0, None))(keys, heads)
    queries = jax.vmap(jax.vmap(fold_rows_in, (0, None)), (0, None))(by_head, start + jnp.arange(n))
    keep = jax.vmap(jax.vmap(lambda row: kept(row, (t,), rate)))(queries)
    return jnp.where(keep, weights / (1.0 - rate), 0.0)


def block_size(length: int) -> int:
    """Queries in a block: few on a CPU, for its cache; more on an accelerator."""
    return min(64 if platform() == "cpu" else 512, length)


def lean_attention(
    q: Heads,
    k: Heads,
    v: Heads,
    segment_ids: Tokens,
    *,
    causal: bool,
    window: int | jax.Array | None,
    distance_bias: jax.Array | None,
    scale: float,
    dropout: float,
    keys: jax.Array | None,
    key_segment_ids: Tokens | None = None,
) -> Heads:
    """`attention` by blocks of queries; see there for the arguments.

    With `key_segment_ids` (b, u) the keys and values are of another row, of u tokens.
    """
    kernel = functools.partial(_by_blocks, options=_Options(causal, dropout), scale=scale)
    key_segments = segment_ids if key_segment_ids is None else key_segment_ids
    arrays = dict(window=window, distance_bias=distance_bias, keys=keys)
    return on_shards(kernel, q, k, v, segment_ids, key_segments, **arrays)


@dataclasses.dataclass(frozen=True)
class _Options:
    causal: bool
    dropout: float


def _by_blocks(
    q,
    k,
    v,
    segment_ids,
    *,
    options: _Options,
    scale: float,
    key_segment_ids,
    window,
    distance_bias,
    keys,
    start: int | jax.Array = 0,
    head_numbers=None,
):
    """Queries `start`, `start + 1`, ... of rows, in the heads of these numbers."""
    (b, t, h, d), kv = q.shape, k.shape[2]
    n = block_size(t)
    blocks = -(-t // n)
    padding = [(0, 0), (0, blocks * n - t)]
    segments = jnp.pad(segment_ids, padding).reshape(b, blocks, n).swapaxes(0, 1)
    queries = jnp.pad(q * scale, [*padding, (0, 0), (0, 0)])
    queries = queries.reshape(b, blocks, n, kv, h // kv, d).transpose(1, 0, 3, 4, 2, 5)
    k, v = k.transpose(0, 2, 3, 1), v.transpose(0, 2, 3, 1)

    def one(block):
        q, query_segments, first = block
        where = query_segments, key_segment_ids, start + first, window, head_numbers
        return _block(options, q, k, v, distance_bias, where, keys)

    if blocks == 1:
        out = one((queries[0], segments[0], 0))[None]
    else:
        out = jax.lax.map(one, (queries, segments, jnp.arange(blocks) * n))
    return out.transpose(1, 0, 4, 2, 3, 5).reshape(b, blocks * n, h, d)[:, :t]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _block(options: _Options, q, k, v, distance_bias, where, keys):
    """One block of queries: q (b kv g n d), k and v (b kv d t) -> (b kv g n d)."""
    return _block_forward(options, q, k, v, distance_bias, where, keys)[0]


def _block_forward(options: _Options, q, k, v, distance_bias, where, keys):
    logits = _logits(options, q, k, distance_bias, where)
    top = logits.max(-1, keepdims=True)
    weights = jnp.exp(logits - top)
    total = weights.sum(-1, keepdims=True)
    weights = _dropped(weights, options, where, keys).astype(v.dtype)
    out = jnp.einsum("bkgnt,bkdt->bkgnd", weights, v, preferred_element_type=jnp.float32)
    out = (out / total).astype(v.dtype)
    return out, (q, k, v, distance_bias, where, keys, out, top + jnp.log(total))


def _block_backward(options: _Options, saved, gradient):
    q, k, v, distance_bias, where, keys, out, log_total = saved
    weights = jnp.exp(_logits(options, q, k, distance_bias, where) - log_total)
    used = _dropped(weights, options, where, keys).astype(v.dtype)
    of_v = jnp.einsum("bkgnd,bkgnt->bkdt", gradient, used)
    of_weights = jnp.einsum("bkgnd,bkdt->bkgnt", gradient, v, preferred_element_type=jnp.float32)
    of_weights = _dropped(of_weights, options, where, keys)
    # The softmax's own gradient; its sum over keys is that of the output times the output.
    inner = jnp.sum(gradient.astype(jnp.float32) * out, -1, keepdims=True)
    of_logits = weights * (of_weights - inner)
    of_bias = None
    if distance_bias is not None:
        pull = jax.vjp(lambda bias: _bias(bias, q.shape, k.shape, where[2]), distance_bias)[1]
        of_bias = pull(of_logits.sum(0, keepdims=True))[0]
    of_logits = of_logits.astype(q.dtype)
    of_q = jnp.einsum("bkgnt,bkdt->bkgnd", of_logits, k)
    of_k = jnp.einsum("bkgnd,bkgnt->bkdt", q, of_logits)
    return of_q, of_k, of_v, of_bias, (None,) * 5, None


_block.defvjp(_block_forward, _block_backward)


def _logits(options: _Options, q, k, distance_bias, where):
    query_segments, key_segments, start, window, _ = where
    logits = jnp.einsum("bkgnd,bkdt->bkgnt", q, k, preferred_element_type=jnp.float32)
    if distance_bias is not None:
        logits += _bias(distance_bias, q.shape, k.shape, start)
    mask = allowed(query_segments, key_segments, start, options.causal, window)
    return jnp.where(mask[:, None, None], logits, MASKED)


def _bias(distance_bias, q_shape: tuple, k_shape: tuple, start):
    (_, kv, g, n, _), t = q_shape, k_shape[3]
    difference = start + jnp.arange(n)[:, None] - jnp.arange(t)
    # The queries that fill up the last block stand behind the row: any bias will do.
    columns = jnp.minimum(difference + t - 1, 2 * t - 2)
    return distance_bias[:, columns].reshape(1, kv, g, n, t)


def _dropped(weights, options: _Options, where, keys):
    b, kv, g, n, t = weights.shape
    if keys is None or options.dropout == 0.0:
        return weights
    flat = weights.reshape(b, kv * g, n, t)
    flat = drop_weights(flat, where[2], options.dropout, keys, where[4])
    return flat.reshape(weights.shape)
