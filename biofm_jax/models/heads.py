"""What stands on the last hidden states: pooling and the heads."""

import dataclasses
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from biofm_jax.array_types import AnyArray, ArrayLike, Hidden, Pooled, PyTree, typed
from biofm_jax.data.batch import Batch
from biofm_jax.models.activations import ACTIVATIONS
from biofm_jax.models.api import constrain
from biofm_jax.models.dropout import HEAD, dropout
from biofm_jax.models.layers import ZEROS, Dense, Norm, normal, parameter

if TYPE_CHECKING:
    from biofm_jax.models.transformer import TransformerSpec

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"]


@dataclasses.dataclass(frozen=True)
class LanguageHead:
    """Logits over the vocabulary.

    Attributes:
        transform: a dense layer, activation and norm first (BERT, ESM).
        activation: of the transform.
        bias: whether each token has one.
        tied: the token embeddings are the output weights.
        transform_bias: the dense layer of the transform has one.
        scale: factor of the vectors before the output weights (1 / sqrt(width) in T5).
    """

    transform: bool = True
    activation: Activation = "gelu"
    bias: bool = True
    tied: bool = True
    transform_bias: bool = True
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class ProjectionHead:
    """A projection of `pooled` for contrastive learning (SimCLR, arXiv 2002.05709).

    Attributes:
        width: of the projection.
        layers: dense layers, with ReLU between them.
        bias: whether these have one (not in CLIP).
    """

    width: int = 128
    layers: int = 2
    bias: bool = True

    activation: ClassVar[Activation] = "relu"

    def widths(self, inputs: int) -> tuple[int, ...]:
        """Of the vectors before, between and behind the layers."""
        return (*(inputs,) * self.layers, self.width)


@dataclasses.dataclass(frozen=True)
class MlpProjectionHead(ProjectionHead):
    """A projection whose inner layers have a width and an activation of their own, as that of
    BiomedCLIP's texts (arXiv 2303.00915).

    Attributes:
        hidden: the width between the layers.
        activation: between them.
    """

    hidden: int = 640
    activation: Activation = "gelu"

    def widths(self, inputs: int) -> tuple[int, ...]:
        """See `ProjectionHead`."""
        return (inputs, *(self.hidden,) * (self.layers - 1), self.width)


@dataclasses.dataclass(frozen=True)
class PredictionHead:
    """A linear layer on `pooled`: one output per class or target."""

    outputs: int = 1


@dataclasses.dataclass(frozen=True)
class PoolerHead:
    """A linear layer and tanh on `pooled`, as BERT and ViT publish it.

    Attributes:
        width: of its output.
    """

    width: int = 768


Head = LanguageHead | ProjectionHead | PredictionHead | PoolerHead | None


@typed
def pool(
    hidden: Hidden, batch: Batch, pooling: str, special: tuple[int, ...]
) -> Float[ArrayLike, "b s p"]:
    """One float32 vector (b, s, p) per packed example; zero for an empty slot.

    Args:
        hidden: (b, t, d).
        batch: says which token is whose.
        pooling: "mean" over an example's tokens, its "first" or "last" token: p is d; or
            "first+mean", one behind the other: p is 2d.
        special: vocabulary ids that the mean leaves out.
    """
    if pooling == "first+mean":
        both = [pool(hidden, batch, kind, special) for kind in pooling.split("+")]
        return jnp.concatenate(both, axis=-1)
    slots = jnp.arange(1, batch.examples.shape[1] + 1)
    members = batch.segment_ids[:, :, None] == slots
    if pooling in ("first", "last"):
        at = jnp.argmax(members if pooling == "first" else members[:, ::-1], axis=1)
        at = at if pooling == "first" else members.shape[1] - 1 - at
        vectors = jnp.take_along_axis(hidden, at[:, :, None], axis=1).astype(jnp.float32)
        return jnp.where(members.any(1)[:, :, None], vectors, 0.0)
    for token in special:
        members &= (batch.tokens != token)[:, :, None]
    members = members.astype(jnp.float32)
    totals = jnp.einsum("bts,btd->bsd", members, hidden.astype(jnp.float32))
    return totals / jnp.maximum(members.sum(1), 1.0)[:, :, None]


class LanguageLogits(nn.Module):
    """The module of `LanguageHead`; `table` holds the token embeddings."""

    spec: "TransformerSpec"

    @nn.compact
    def __call__(self, x: Hidden, table: AnyArray) -> AnyArray:
        spec, head = self.spec, self.spec.head
        if head.transform:
            shape = (spec.width, spec.width)
            options = (spec.init_std, head.transform_bias)
            x = Dense(shape, ("embed", None), *options, name="transform")(x)
            x = ACTIVATIONS[head.activation](x)
            x = Norm(spec.norm, spec.norm_epsilon, spec.biases.norm, name="norm")(x)
        if head.scale != 1.0:
            x = x * head.scale
        if not head.tied:
            shape = (spec.vocabulary, spec.width)
            table = parameter(self, "tokens", normal(spec.init_std), shape, ("vocab", "embed"))
        logits = jnp.einsum(
            "btd,vd->btv", x, table.astype(x.dtype), preferred_element_type=jnp.float32
        )
        if head.bias:
            logits = logits + parameter(self, "bias", ZEROS, (spec.vocabulary,), ("vocab",))
        return constrain(logits, "batch", "tokens", "vocab")


class PooledLogits(nn.Module):
    """The module of the heads on `pooled`, float32."""

    spec: "TransformerSpec"

    @nn.compact
    def __call__(self, x: Pooled, keys) -> AnyArray:
        spec, head = self.spec, self.spec.head
        x = dropout(x, spec.dropout, keys, HEAD)
        wide = x.shape[-1]
        if isinstance(head, PredictionHead):
            shape = (wide, head.outputs)
            return Dense(shape, ("embed", None), spec.init_std, True, name="out")(x)
        if isinstance(head, PoolerHead):
            shape = (wide, head.width)
            return jnp.tanh(Dense(shape, ("embed", None), spec.init_std, True, name="dense")(x))
        for i, shape in enumerate(pairwise(head.widths(wide))):
            options = (("embed", None), shape[0] ** -0.5, head.bias)
            x = x if i == 0 else ACTIVATIONS[head.activation](x)
            x = Dense(shape, *options, name=f"dense_{i}")(x)
        return x


def head_logits(
    spec: "TransformerSpec",
    params: PyTree,
    table: AnyArray,
    hidden: Hidden,
    pooled: Pooled,
    batch: Batch,
    keys: jax.Array | None,
) -> AnyArray | None:
    """What the model's head makes; None where it has none.

    Args:
        spec: the model's spec.
        params: of the head, gathered.
        table: (v, d) token embeddings, read by a tied language head.
        hidden: (b, t, d).
        pooled: (b, s, d).
        batch: `predict` says at which tokens a language head stands.
        keys: (b,) dropout keys of the rows; None: nothing is dropped.
    """
    if isinstance(spec.head, LanguageHead):
        if batch.predict is not None:
            hidden = jnp.take_along_axis(hidden, batch.predict[:, :, None], axis=1)
            hidden = constrain(hidden, "batch", "tokens", "width")
        return LanguageLogits(spec).apply({"params": params}, hidden, table)
    if spec.head is None:
        return None
    return PooledLogits(spec).apply({"params": params}, pooled, keys)


def init_head(spec: "TransformerSpec", rng: jax.Array, table: AnyArray, hidden: Hidden) -> PyTree:
    """The parameters of the model's head with the names of their axes; {} where it has none."""
    if isinstance(spec.head, LanguageHead):
        return LanguageLogits(spec).init(rng, hidden, table).get("params", {})
    if spec.head is None:
        return {}
    pooled = jnp.zeros((1, 1, getattr(spec, "pooled_width", spec.width)))
    return PooledLogits(spec).init(rng, pooled, None)["params"]
