"""Attention on a mesh: every device does the queries that it holds, of its rows and heads.

Where the mesh axis `context` cuts a row into runs of tokens, a device gathers the keys, the values
and the segment ids of the whole row, and their gradients return as a reduce-scatter (Llama 3,
Grattafiori et al. 2024, arXiv 2407.21783, section 3.3.2). What is kept for the backward pass is
each device's own run. Rotary positions are in queries and keys before they travel.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from biofm_jax.array_types import Heads, Tokens
from biofm_jax.models.api import gather_tokens, parts, per_shard, unsharded

HEADS = ("batch", "tokens", "heads", None)
TOKENS = ("batch", "tokens")


def shared_key_heads(q: Heads, k: Heads, v: Heads) -> tuple[Heads, Heads]:
    """Keys and values of which each device can hold those of its query heads.

    Fewer key heads than devices cannot be split over them, and are repeated.
    """
    h, kv = q.shape[2], k.shape[2]
    if kv % parts("heads", h) == 0:
        return k, v
    return jnp.repeat(k, h // kv, axis=2), jnp.repeat(v, h // kv, axis=2)


def on_shards(
    kernel: Callable[..., Heads],
    q: Heads,
    k: Heads,
    v: Heads,
    segment_ids: Tokens,
    key_segment_ids: Tokens,
    **arrays: jax.Array | None,
) -> Heads:
    """`kernel(q, k, v, segment_ids, **options)` on each device's shard.

    Args:
        kernel: attention of some queries to the keys of whole rows. Its options are
            `key_segment_ids` (b, u), `start`, the index of its first query in the row,
            `head_numbers` (h,), and `arrays`.
        q: (b, t, h, d) queries.
        k: (b, u, kv, d) keys.
        v: (b, u, kv, d) values.
        segment_ids: (b, t) of the queries.
        key_segment_ids: (b, u) of the keys.
        arrays: `window` (), `distance_bias` (h, differences), `keys` (b,); or None.

    Returns:
        (b, t, h, d).
    """
    if unsharded():
        return kernel(q, k, v, segment_ids, key_segment_ids=key_segment_ids, **arrays)
    k, v = shared_key_heads(q, k, v)
    cut = parts("tokens", k.shape[1]) > 1
    known = {"window": (), "distance_bias": ("heads", None), "keys": ("batch",)}
    given = {name: jnp.asarray(x) for name, x in arrays.items() if x is not None}
    # Each shard finds in its own part of these where it stands.
    places = {"start": jnp.arange(q.shape[1]), "head_numbers": jnp.arange(q.shape[2])}

    def on_shard(q, k, v, segment_ids, key_segment_ids, indices, head_numbers, *rest):
        if cut:
            k, v, key_segment_ids = (gather_tokens(x) for x in (k, v, key_segment_ids))
        return kernel(
            q,
            k,
            v,
            segment_ids,
            key_segment_ids=key_segment_ids,
            start=indices[0],
            head_numbers=head_numbers,
            **(dict.fromkeys(arrays) | dict(zip(given, rest, strict=True))),
        )

    names = (HEADS, HEADS, HEADS, TOKENS, TOKENS, ("tokens",), ("heads",))
    names += tuple(known[name] for name in given)
    operands = (q, k, v, segment_ids, key_segment_ids, *places.values(), *given.values())
    return per_shard(on_shard, names, HEADS)(*operands)
