"""One configurable transformer stack; most published families are points of its spec."""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.models.api import Model
from biofm_jax.models.attention import Backend
from biofm_jax.models.attention_fused import visited_share
from biofm_jax.models.attention_pool import AttentionPool
from biofm_jax.models.checks import check_spec
from biofm_jax.models.embedding import Embedding, TokenDropout
from biofm_jax.models.flops import transformer_flops
from biofm_jax.models.heads import Activation, Head, LanguageHead
from biofm_jax.models.linear_attention import LinearAttention
from biofm_jax.models.positions import LocalLayers, Positions, Rotary
from biofm_jax.models.spec import ModelSpec, check_tokens
from biofm_jax.models.stack import apply_stack, init_stack, stack_axes


@dataclasses.dataclass(frozen=True)
class Biases:
    """Which dense layers and norms have biases.

    Attributes:
        qkv: queries, keys and values.
        out: the output projection of attention.
        up: into the feed-forward (and its gate).
        down: out of the feed-forward.
        norm: every LayerNorm but those named below.
        qk_norm: the norms of queries and keys.
        final_norm: the norm after the last block.
    """

    qkv: bool = True
    out: bool = True
    up: bool = True
    down: bool = True
    norm: bool = True
    qk_norm: bool = False
    final_norm: bool = True


@dataclasses.dataclass(frozen=True)
class TransformerSpec(ModelSpec):
    """A transformer; the defaults are an ESM-2-like encoder of 8 million parameters.

    Attributes:
        vocabulary: number of token ids.
        layers: number of blocks.
        width: of the residual stream.
        heads: query heads.
        kv_heads: key and value heads, each serving heads / kv_heads query heads; None: heads.
        head_width: of a head; None: width / heads.
        feedforward: width of the feed-forward's hidden layer; None: 4 x width.
        causal: tokens see only what is behind them.
        norm: LayerNorm or RMSNorm.
        norm_position: before each branch, or after adding it to the residual stream.
        norm_epsilon: added to the variance.
        final_norm: a norm after the last block (pre-norm stacks have one).
        activation: of the feed-forward.
        gated: activation(x U) * (x V), as SwiGLU and GeGLU.
        biases: which parts have them.
        positions: learned, rotary, ALiBi, relative or none.
        qk_norm: norm of queries and keys per head, or over all heads ("width", ESM C).
        parallel: attention and feed-forward read the same stream, through a "shared" norm
            (GPT-J) or "separate" ones (GPT-NeoX).
        window: tokens see at most this far.
        linear: attention by random features, without a softmax (MoLFormer); None: softmax.
        local: some layers have a window and rotary angles of their own; None: all are alike.
        first_norm: a norm before the attention of the first layer; without it that norm's
            parameters lie unused (ModernBERT, whose embeddings have a norm).
        attention_scale: of attention logits; None: 1 / sqrt(head width).
        attention_by_depth: layer i, from 0, divides its attention logits by i + 1 (BioMedLM).
        embedding_norm: a norm of the embeddings (BERT).
        embedding_scale: factor of the token embeddings (sqrt(width) in BioGPT).
        token_types: rows of a type table, of which row 0 is added to every token (BERT).
        token_dropout: ESM-2's treatment of mask tokens.
        layer_scale: initial value of learned factors on each branch (DINOv2); None: none.
        residual_scale: fixed factor on each branch (ESM C).
        dropout: on embeddings, branches and pooled vectors, when training.
        attention_dropout: on attention weights, when training.
        pooling: how `Outputs.pooled` is made.
        special: vocabulary ids that mean pooling leaves out.
        head: what makes `Outputs.logits`; None: nothing.
        init_std: standard deviation of initial weights.
        init_by_depth: output projections start smaller by sqrt(2 layers) (GPT-2).
        dtype: of the computation; parameters are float32 always.
        backend: of attention.
        scan: one compiled block, run `layers` times; otherwise unrolled, same numbers (ESM-2
            650M on an H100: 8 % faster steps, 42 s to compile instead of 15).
        remat: what the backward pass computes again instead of keeping: nothing, attention
            (its projections too), all but the results of products with weights and of cuDNN's
            attention ("dots"), or all.
    """

    vocabulary: int = 33
    layers: int = 6
    width: int = 320
    heads: int = 20
    kv_heads: int | None = None
    head_width: int | None = None
    feedforward: int | None = None
    causal: bool = False
    norm: Literal["layer", "rms"] = "layer"
    norm_position: Literal["pre", "post"] = "pre"
    norm_epsilon: float = 1e-5
    final_norm: bool = True
    activation: Activation = "gelu"
    gated: bool = False
    biases: Biases = dataclasses.field(default_factory=Biases)
    positions: Positions = dataclasses.field(default_factory=Rotary)
    qk_norm: Literal["none", "head", "width"] = "none"
    parallel: Literal["none", "shared", "separate"] = "none"
    window: int | None = None
    linear: LinearAttention | None = None
    local: LocalLayers | None = None
    first_norm: bool = True
    attention_scale: float | None = None
    attention_by_depth: bool = False
    embedding_norm: bool = False
    embedding_scale: float = 1.0
    token_types: int = 0
    token_dropout: TokenDropout | None = None
    layer_scale: float | None = None
    residual_scale: float = 1.0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    pooling: Literal["mean", "first", "last"] = "mean"
    special: tuple[int, ...] = ()
    head: Head = dataclasses.field(default_factory=LanguageHead)
    init_std: float = 0.02
    init_by_depth: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    backend: Backend = "auto"
    scan: bool = True
    remat: Literal["none", "attention", "dots", "full"] = "none"

    @property
    def key_heads(self) -> int:
        """Number of key and value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.width // self.heads if self.head_width is None else self.head_width

    @property
    def hidden_width(self) -> int:
        """Width of the feed-forward's hidden layer."""
        return 4 * self.width if self.feedforward is None else self.feedforward

    @property
    def pooled_width(self) -> int:
        """Width of `Outputs.pooled`."""
        return 2 * self.width if self.pooling == "first+mean" else self.width

    @property
    def out_std(self) -> float:
        """Initial standard deviation of the projections back into the residual stream."""
        return self.init_std / (2 * self.layers) ** 0.5 if self.init_by_depth else self.init_std

    def embedding(self) -> nn.Module:
        """What makes the first hidden states of a batch, with the keys of dropout."""
        return Embedding(self)

    def pool_module(self) -> nn.Module | None:
        """What pools with parameters of its own, (hidden, batch) -> pooled and weights; None."""
        return AttentionPool(self) if self.pooling == "attention" else None

    def blank(self) -> Batch:
        """A row of two tokens, by which parameters are made."""
        ids = jnp.zeros((1, 2), jnp.int32)
        return Batch(tokens=ids, segment_ids=ids + 1, positions=ids, examples=ids[:, :1])

    def check(self, data, mesh) -> None:
        """See `ModelSpec`."""
        check_tokens(self, data, mesh)

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`."""
        return transformer_flops(self, attended, predicted, pooled)

    def visited_share(self, tokens) -> float:
        """See `ModelSpec`."""
        return visited_share(tokens, self.causal, self.window)

    def build(self) -> Model:
        """The model's pure functions.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        check_spec(self)

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            return init_stack(self, rng)

        def apply(params, batch, **options):
            return apply_stack(self, params, batch, **options)

        def axes(params):
            names = stack_axes(self)
            return jax.tree.map(lambda _, leaf: leaf, params, names)

        return Model(init, apply, axes, self)
