"""One layer of a stack: its branches, its norms and the order in which they are added."""

from typing import TYPE_CHECKING

import flax.linen as nn
import jax.numpy as jnp

from biofm_jax.array_types import Hidden
from biofm_jax.models.api import constrain
from biofm_jax.models.cross_attention import CrossAttention
from biofm_jax.models.dropout import ATTENTION, CROSS_ATTENTION, FEEDFORWARD, dropout
from biofm_jax.models.layers import Attention, Context, FeedForward, Norm, parameter

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec


class Block(nn.Module):
    """One layer: attention, cross attention where there is a source, and feed-forward."""

    spec: "TransformerSpec"
    want_weights: bool = False

    @nn.compact
    def __call__(self, x: Hidden, context: Context, keys):
        spec = self.spec

        def attention(kind, name):
            kind = nn.remat(kind) if spec.remat == "attention" else kind
            return kind(spec, self.want_weights, name=name)

        def norm_named(name):
            return Norm(spec.norm, spec.norm_epsilon, spec.biases.norm, name=name)

        attend = attention(Attention, "attention")
        feed = FeedForward(spec, name="feedforward")
        norm = norm_named("attention_norm")
        second_norm = None
        if spec.parallel != "shared":
            second_norm = norm_named("feedforward_norm")
        look = None
        if context.source is not None:
            look = attention(CrossAttention, "cross_attention")
            look_norm = norm_named("cross_attention_norm")

        def branch(y, site, name):
            if spec.layer_scale is not None:
                init = nn.initializers.constant(spec.layer_scale)
                y = y * parameter(self, name, init, (spec.width,), (None,)).astype(y.dtype)
            return dropout(y, spec.dropout, keys, site) * spec.residual_scale

        def attention_input(x):
            y = norm(x)
            return y if spec.first_norm else jnp.where(context.layer == 0, x, y)

        def attended(y):
            y, weights = attend(y, context, keys)
            return branch(y, ATTENTION, "attention_scale"), weights

        def looked(y):
            y, _ = look(y, context.source, context.segment_ids, keys)
            return branch(y, CROSS_ATTENTION, "cross_attention_scale")

        def fed(y):
            return branch(feed(y), FEEDFORWARD, "feedforward_scale")

        if spec.norm_position == "post":
            y, weights = attended(x)
            x = norm(x + y)
            x = x if look is None else look_norm(x + looked(x))
            x = second_norm(x + fed(x))
        elif spec.parallel == "none":
            y, weights = attended(attention_input(x))
            x = x + y
            x = x if look is None else x + looked(look_norm(x))
            x = x + fed(second_norm(x))
        else:
            first = norm(x)
            y, weights = attended(first)
            x = x + y + fed(first if second_norm is None else second_norm(x))
        return constrain(x, "batch", "tokens", "width"), weights
