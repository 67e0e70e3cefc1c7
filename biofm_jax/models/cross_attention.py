"""The branch of a decoder's block that reads an encoder's output (Vaswani et al. 2017, 1706.03762).

A decoder's example sees the encoded input of the same number in its row: both sides have segment
ids. Neither order nor distance counts here: where a token of the input stands is known from the
encoder.
"""

import dataclasses
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from biofm_jax.array_types import AnyArray, ArrayLike, Heads, Hidden, Tokens, typed
from biofm_jax.errors import UserError
from biofm_jax.models.api import constrain, platform
from biofm_jax.models.attention import Backend, log_once, reference_attention
from biofm_jax.models.attention_lean import lean_attention
from biofm_jax.models.dropout import CROSS_WEIGHTS, fold
from biofm_jax.models.layers import MADE, Dense

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec

BACKENDS = ("auto", "xla", "reference")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Source:
    """What a decoder reads of its input.

    Attributes:
        segment_ids: (b, u) int32 of the input's tokens; a decoder's token sees those of its own
            segment.
        hidden: (b, u, e) last hidden states of the encoder; None where `keys_values` are there.
        keys_values: two of (b, u, kv, d), made of `hidden` by a layer, or of all layers
            (l, b, u, kv, d); None: each layer makes its own.
    """

    segment_ids: Tokens
    hidden: Hidden | None = None
    keys_values: tuple[AnyArray, AnyArray] | None = None

    def of_layer(self, keys_values: tuple[AnyArray, AnyArray] | None) -> "Source":
        """The source of one layer, whose keys and values these are."""
        return self if keys_values is None else dataclasses.replace(self, keys_values=keys_values)


@typed
def cross_attention(
    q: Heads,
    k: Float[ArrayLike, "b u kv d"],
    v: Float[ArrayLike, "b u kv d"],
    segment_ids: Tokens,
    key_segment_ids: Int32[ArrayLike, "b u"],
    *,
    scale: float | None = None,
    backend: Backend = "auto",
    dropout: float = 0.0,
    keys: jax.Array | None = None,
) -> tuple[Heads, AnyArray | None]:
    """Attention to the tokens of another row.

    Args:
        q: (b, t, h, d) queries.
        k: (b, u, kv, d) keys; each of the kv heads serves h / kv query heads in a row.
        v: (b, u, kv, d) values.
        segment_ids: (b, t) int32 of the queries.
        key_segment_ids: (b, u) int32 of the keys; a query sees keys of its own segment only.
        scale: of the logits; 1 / sqrt(d) by default.
        backend: "xla" or "reference", as of `attention`; "auto" is "xla" everywhere.
        dropout: probability of dropping an attention weight, used where `keys` are given.
        keys: (b,) PRNG keys, one per row.

    Returns:
        (b, t, h, d) in the type of `q`, zero where a query's segment has no key; and of
        "reference" the weights (b, h, t, u) float32, else None.

    Raises:
        UserError: a backend that knows one row only.
    """
    if backend not in BACKENDS:
        raise UserError(
            f'attention backend="{backend}" has no cross attention; use "auto" or "xla"'
        )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    options = dict(key_segment_ids=key_segment_ids, scale=scale, dropout=dropout, keys=keys)
    weights = None
    if backend == "reference":
        y, weights = reference_attention(q, k, v, segment_ids, **options)
    else:
        if backend == "auto":
            log_once(f"cross attention backend: xla on {platform()}, the one there is")
        alone = dict(causal=False, window=None, distance_bias=None)
        y = lean_attention(q, k, v, segment_ids, **alone, **options)
    seen = (segment_ids[:, :, None] == key_segment_ids[:, None, :]).any(-1)
    return jnp.where(seen[:, :, None, None], y, jnp.zeros((), y.dtype)), weights


class CrossAttention(nn.Module):
    """Queries of the decoder, keys and values of its source, output projection."""

    spec: "TransformerSpec"
    want_weights: bool

    @nn.compact
    def __call__(self, x: Hidden, source: Source, segment_ids: Tokens, keys):
        spec = self.spec
        d, h, kv, w = spec.width, spec.heads, spec.key_heads, spec.head_size
        std, biased = spec.init_std, spec.biases.qkv
        q = Dense((d, h, w), ("embed", "heads", None), std, biased, name="q")(x)
        q = constrain(q, "batch", "tokens", "heads", None)
        if source.keys_values is None:
            shape = (source.hidden.shape[-1], 2, kv, w)
            make = Dense(shape, ("embed", None, "heads", None), std, biased, name="kv")
            both = make(source.hidden)
            k, v = (constrain(both[:, :, i], "batch", "tokens", "heads", None) for i in range(2))
            self.sow(MADE, "keys_values", (k, v))
        else:
            k, v = source.keys_values
        y, weights = cross_attention(
            q,
            k,
            v,
            segment_ids,
            source.segment_ids,
            scale=spec.attention_scale,
            backend="reference" if self.want_weights else spec.backend,
            dropout=spec.attention_dropout,
            keys=fold(keys, CROSS_WEIGHTS) if spec.attention_dropout else None,
        )
        y = constrain(y, "batch", "tokens", "heads", None)
        out = Dense(
            (h, w, d), ("heads", None, "embed"), spec.out_std, spec.biases.out, 2, name="out"
        )
        return out(y), weights
