"""Learned queries that read the tokens of another row: a few vectors of any number of patches."""

from typing import TYPE_CHECKING

import flax.linen as nn
import jax.numpy as jnp

from biofm_jax.array_types import Hidden
from biofm_jax.models.api import constrain
from biofm_jax.models.cross_attention import CrossAttention, Source
from biofm_jax.models.layers import Norm, normal, parameter

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec

AXES = (None, None)  # of the queries: too small to shard


class QueryPooling(nn.Module):
    """One layer of attention with queries of its own (CoCa, Yu et al. 2022, arXiv:2205.01917,
    section 3.2), and a norm behind it.

    Attributes:
        spec: gives width, heads, biases and norm.
        queries: q, how many vectors it makes.
    """

    spec: "TransformerSpec"
    queries: int

    @nn.compact
    def __call__(self, source: Source) -> Hidden:
        """Hidden states (b, u, e) of any width to (b, q, d); row by row, one example each."""
        spec, rows = self.spec, source.segment_ids.shape[0]
        shape = (self.queries, spec.width)
        queries = parameter(self, "queries", normal(spec.init_std), shape, AXES)
        x = jnp.broadcast_to(queries.astype(source.hidden.dtype), (rows, *shape))
        segment_ids = jnp.broadcast_to(source.segment_ids[:, :1], (rows, self.queries))
        y, _ = CrossAttention(spec, False, name="attention")(x, source, segment_ids, None)
        y = constrain(y, "batch", "tokens", "width")
        return Norm(spec.norm, spec.norm_epsilon, spec.biases.norm, name="norm")(y)
