"""GROVER: a transformer over the atoms of a molecule whose queries, keys and values are made by
message passing (Rong et al. 2020, arXiv:2007.02835)."""

import dataclasses
from typing import Literal

import jax

from biofm_jax.models.api import Model
from biofm_jax.models.attention import Backend
from biofm_jax.models.flops import head_weights
from biofm_jax.models.graph import check_graph, check_graph_fields, demand
from biofm_jax.models.grover_stack import apply_grover, grover_axes, init_grover
from biofm_jax.models.heads import Activation, Head
from biofm_jax.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class ContextMotifHead:
    """Logits of each atom's context in `Outputs.logits`, of a molecule's motifs in
    `Outputs.pooled_logits`.

    Attributes:
        contexts: classes of contextual properties; the objective's.
        motifs: functional groups; 85 in rdkit.
    """

    contexts: int = 2048
    motifs: int = 85


@dataclasses.dataclass(frozen=True)
class GroverSpec(ModelSpec):
    """The node view of GROVER; the defaults are the sizes of its base model in one view.

    A block (figure 3 of the paper; x_0 are the embeddings of the atoms):

        q, k, v = z after K rounds of z <- relu(x W + W_h sum_u (z_u + e_uv)), each with its own W
        y = norm(W_o attention(q, k, v)) over the atoms of the molecule
        x = norm(MLP([x_0, sum_u y_u]))

    In training K is drawn for each row from a normal distribution around `hops`, cut at 3 (the
    dynamic depth of dyMPN). Differences: one view of the two (no hidden states of bonds, whose
    features enter the messages instead); heads divide the width, where GROVER gives each the
    whole; attention over atoms as in the paper, where the released code attends over the heads of
    one atom; pooling is a mean, where fine-tuning of GROVER learns a weighted one.

    Attributes:
        vocabulary: number of token ids, of atom types.
        features: number of classes of each feature of an atom that is read: the first columns of
            the batch's.
        bonds: the same of the features of a bond, of which class 1 is the first.
        layers: number of blocks; GROVER's is one.
        width: of the hidden states.
        heads: of the attention.
        hops: rounds of messages.
        spread: standard deviation of the number of rounds in training; 0: always `hops`.
        feedforward: width of the MLP's hidden layer; None: 4 x width.
        norm_epsilon: added to the variance.
        activation: of the messages and the MLP (GROVER: PReLU).
        dropout: behind each norm and on pooled vectors, when training.
        pooling: how `Outputs.pooled` is made.
        special: vocabulary ids that mean pooling leaves out.
        mask: id of the mask token, at whose atoms the features are hidden too.
        head: what makes the logits; None: nothing.
        init_std: standard deviation of initial weights.
        dtype: of the computation; parameters are float32 always.
        scan: one compiled block, run `layers` times; otherwise unrolled, same numbers.
        remat: what the backward pass computes again instead of keeping: nothing, or all.
        backend: of the attention.
    """

    vocabulary: int = 121
    features: tuple[int, ...] = ()
    bonds: tuple[int, ...] = (5,)
    layers: int = 1
    width: int = 800
    heads: int = 4
    hops: int = 6
    spread: float = 1.0
    feedforward: int | None = None
    norm_epsilon: float = 1e-5
    activation: Activation = "relu"
    dropout: float = 0.1
    pooling: Literal["mean", "first"] = "mean"
    special: tuple[int, ...] = ()
    mask: int | None = None
    head: Head | ContextMotifHead = dataclasses.field(default_factory=ContextMotifHead)
    init_std: float = 0.05
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = True
    remat: Literal["none", "full"] = "none"
    backend: Backend = "auto"

    @property
    def hidden_width(self) -> int:
        """Width of the MLP's hidden layer."""
        return 4 * self.width if self.feedforward is None else self.feedforward

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    # What checks of an experiment ask of a model that reads tokens.
    positions = None
    token_dropout = None

    def check(self, data, mesh) -> None:
        """See `ModelSpec`; the data must have graphs, and no mesh may cut a row."""
        check_graph(self, data, mesh)

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`."""
        square = self.width * self.width
        messages = 3 * square + self.hops * 3 * self.width * self.head_size
        body = messages + square + 2 * self.width * attended + 3 * self.width * self.hidden_width
        if isinstance(self.head, ContextMotifHead):
            head = self.width * (self.head.contexts * predicted + self.head.motifs * pooled)
        else:
            head = head_weights(self, predicted, pooled)
        return 6.0 * (self.layers * body + head)

    def build(self) -> Model:
        """The model's pure functions; `apply` reads `Batch.graph`.

        Of the options of `Model.apply` there are `rngs`, `train`, `collect=("layers",)` and
        `embedded`.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        check_graph_fields(self)
        demand(self, self.heads > 0 and self.width % self.heads == 0, "heads",
               f"a divisor of width={self.width}")  # fmt: skip
        demand(self, self.hops > 0, "hops", "a positive number")
        demand(self, self.spread >= 0, "spread", "at least 0")

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            return init_grover(self, rng)

        def apply(params, batch, **options):
            return apply_grover(self, params, batch, **options)

        def axes(params):
            return jax.tree.map(lambda _, leaf: leaf, params, grover_axes(self))

        return Model(init, apply, axes, self)
