"""The Linen modules that a transformer block is made of.

Each parameter names its axes beside its shape: "embed" is sharded by fsdp; "heads", "mlp" and
"vocab" by tensor parallelism; vectors along the width are too small to shard (None).
"""

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray, Hidden, Tokens
from biofm_jax.models.activations import ACTIVATIONS
from biofm_jax.models.api import BUFFER, Late, constrain, unsharded, used
from biofm_jax.models.attention import attention, reference_attention
from biofm_jax.models.attention_cached import Cache, cached_attention
from biofm_jax.models.dropout import WEIGHTS, fold
from biofm_jax.models.linear_attention import (
    linear_attention,
    orthogonal_features,
    reference_linear_attention,
)
from biofm_jax.models.low_rank import is_low_rank
from biofm_jax.models.normalize import normalize
from biofm_jax.models.positions import Rotary, Tables, rotate

if TYPE_CHECKING:
    from biofm_jax.models.cross_attention import Source
    from biofm_jax.models.transformer import TransformerSpec

MADE = "made"  # the collection of what a block makes besides its output


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """What every layer of a row reads besides its hidden states.

    Attributes:
        segment_ids: (b, t).
        tables: cosine and sine of the rotary angles, for rotary positions.
        distance_bias: (h, 2t - 1), for ALiBi and relative positions.
        window: tokens see at most this far.
        layer: number of the layer.
        past: keys and values of the tokens before these, of all layers until `after` has named
            one; None: there are none.
        examples: the most examples in a row.
        source: what a decoder reads of its encoder; None: there is none.
        features: (d, m) random features of linear attention that this step drew for the layer;
            None: the stored ones.
    """

    segment_ids: Tokens
    tables: Tables | None = None
    distance_bias: AnyArray | None = None
    window: int | jax.Array | None = None
    layer: jax.Array | int = 0
    past: Cache | None = None
    examples: int | None = dataclasses.field(default=None, metadata={"static": True})
    source: "Source | None" = None
    features: AnyArray | None = None

    def after(self, past: Cache) -> "Context":
        """The context of one layer, behind what it kept."""
        return dataclasses.replace(self, past=past)


def parameter(module: nn.Module, name: str, init, shape: tuple, axes: tuple) -> jax.Array:
    """A stored float32 parameter with the logical names of its axes beside it."""
    return used(_stored(module, name, init, shape, axes))


def _stored(module: nn.Module, name: str, init, shape: tuple, axes: tuple):
    """The same, with a low-rank change left beside it."""
    return module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32)


def product(x: jax.Array, kernel: jax.Array | Late, inputs: int) -> jax.Array:
    """`x @ kernel` over the last `inputs` axes of x and the first of the kernel, in x's type."""
    if not isinstance(kernel, Late):
        return _product(x, kernel, inputs)

    # The backward pass keeps x and the stored kernel alone. A new function in each call: the trace
    # of an old one would be found again, made under another partitioner.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def late(x, kernel):
        return _product(x, kernel, inputs)

    return late(x, kernel)


def _product(x, kernel, inputs):
    kernel = used(kernel).astype(x.dtype)
    rows, outputs = x.shape[: x.ndim - inputs], kernel.shape[inputs:]
    if unsharded():
        # A product of two matrices is up to three times faster on XLA's CPU backend.
        y = x.reshape(math.prod(rows), -1) @ kernel.reshape(-1, math.prod(outputs))
        return y.reshape(*rows, *outputs)
    # The axes stay apart, so that each may be sharded.
    contracted = tuple(range(x.ndim - inputs, x.ndim)), tuple(range(inputs))
    return jax.lax.dot_general(x, kernel, (contracted, ((), ())))


def normal(std: float):
    """The initialiser of weights: normal, as BERT and GPT-2 publish it."""
    return nn.initializers.normal(std)


ZEROS, ONES = nn.initializers.zeros, nn.initializers.ones


class Dense(nn.Module):
    """`x @ kernel + bias` over the last `inputs` axes of x, in the type of x.

    Attributes:
        shape: of the kernel, input axes first.
        axes: the logical names of the kernel's axes.
        std: of the kernel's initial values.
        bias: whether there is one.
        inputs: how many axes are contracted.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    std: float
    bias: bool
    inputs: int = 1

    @nn.compact
    def __call__(self, x):
        kernel = _stored(self, "kernel", normal(self.std), self.shape, self.axes)
        if is_low_rank(kernel):
            change = product(product(x, kernel.a, self.inputs), kernel.b, 1)
            y = product(x, kernel.base, self.inputs) + kernel.scale * change
        else:
            y = product(x, kernel, self.inputs)
        if self.bias:
            # The width of an output is never sharded on its own: see the module's docstring.
            axes = [None if name == "embed" else name for name in self.axes[self.inputs :]]
            bias = parameter(self, "bias", ZEROS, self.shape[self.inputs :], tuple(axes))
            y = y + bias.astype(y.dtype)
        return y


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last `inputs` axes, in float32."""

    kind: str
    epsilon: float
    bias: bool
    inputs: int = 1

    @nn.compact
    def __call__(self, x):
        shape = x.shape[-self.inputs :]
        names = ("heads", None) if self.inputs == 2 else (None,)
        scale = parameter(self, "scale", ONES, shape, names)
        bias = None
        if self.bias and self.kind == "layer":
            bias = parameter(self, "bias", ZEROS, shape, names)
        return normalize(x, scale, bias, self.kind == "layer", self.epsilon)


class Attention(nn.Module):
    """Queries, keys, values, attention, output projection."""

    spec: "TransformerSpec"
    want_weights: bool

    @nn.compact
    def __call__(self, x: Hidden, context: Context, keys):
        spec = self.spec
        d, h, kv, w = spec.width, spec.heads, spec.key_heads, spec.head_size
        std, biased = spec.init_std, spec.biases.qkv
        if kv == h:
            qkv = Dense((d, 3, h, w), ("embed", None, "heads", None), std, biased, name="qkv")(x)
            q, k, v = (qkv[:, :, i] for i in range(3))
        else:
            q = Dense((d, h, w), ("embed", "heads", None), std, biased, name="q")(x)
            both = Dense((d, 2, kv, w), ("embed", None, "heads", None), std, biased, name="kv")(x)
            k, v = both[:, :, 0], both[:, :, 1]
        if spec.qk_norm != "none":
            inputs = 2 if spec.qk_norm == "width" else 1
            options = (spec.norm, spec.norm_epsilon, spec.biases.qk_norm, inputs)
            q, k = Norm(*options, name="q_norm")(q), Norm(*options, name="k_norm")(k)
        if isinstance(spec.positions, Rotary):
            q, k = (rotate(y, context.tables, spec.positions.interleaved) for y in (q, k))
        if spec.attention_by_depth:
            q = q / jnp.asarray(context.layer + 1, q.dtype)
        q, k, v = (constrain(y, "batch", "tokens", "heads", None) for y in (q, k, v))
        self.sow(MADE, "keys_values", (k, v))  # kept where `apply` asks for it, else nothing
        options = dict(
            causal=spec.causal,
            window=context.window,
            distance_bias=context.distance_bias,
            scale=spec.attention_scale,
            dropout=spec.attention_dropout,
            keys=fold(keys, WEIGHTS) if spec.attention_dropout else None,
        )
        weights = None
        if spec.linear is not None:
            y, weights = self._linear(q, k, v, context)
        elif self.want_weights:
            y, weights = reference_attention(q, k, v, context.segment_ids, **options)
        elif context.past is not None:
            cached = {name: options[name] for name in ("window", "distance_bias", "scale")}
            y = cached_attention(q, k, v, context.past, **cached)
        else:
            options |= dict(backend=spec.backend, examples=context.examples)
            y = attention(q, k, v, context.segment_ids, **options)
        y = constrain(y, "batch", "tokens", "heads", None)
        out = Dense(
            (h, w, d), ("heads", None, "embed"), spec.out_std, spec.biases.out, 2, name="out"
        )
        return out(y), weights

    def _linear(self, q, k, v, context: Context):
        linear, shape = self.spec.linear, (q.shape[-1], self.spec.linear.features)
        stored = parameter(self, "random_features", orthogonal_features, shape, (BUFFER, None))
        features = jax.lax.stop_gradient(stored if context.features is None else context.features)
        operands = q, k, v, context.segment_ids, features
        if self.want_weights:
            return reference_linear_attention(*operands, epsilon=linear.epsilon)
        options = dict(epsilon=linear.epsilon, examples=context.examples)
        return linear_attention(*operands, **options), None


class FeedForward(nn.Module):
    """Two dense layers, the first gated or not."""

    spec: "TransformerSpec"

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        spec, activation = self.spec, ACTIVATIONS[self.spec.activation]
        d, f, biases = spec.width, spec.hidden_width, spec.biases
        if spec.gated:
            up = Dense((d, 2, f), ("embed", None, "mlp"), spec.init_std, biases.up, name="up")(x)
            y = activation(up[:, :, 0]) * up[:, :, 1]
        else:
            up = Dense((d, f), ("embed", "mlp"), spec.init_std, biases.up, name="up")(x)
            y = activation(up)
        y = constrain(y, "batch", "tokens", "mlp")
        return Dense((f, d), ("mlp", "embed"), spec.out_std, biases.down, name="down")(y)
