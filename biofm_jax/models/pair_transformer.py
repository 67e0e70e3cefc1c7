"""A transformer over atoms in space that carries a bias of every pair of them (Uni-Mol)."""

import dataclasses
from typing import Literal

import jax

from biofm_jax.data.api import DataSpec
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.models.flops import head_weights
from biofm_jax.models.heads import Activation, Head, LanguageHead
from biofm_jax.models.pair_stack import apply_pairs, init_pairs, pair_axes
from biofm_jax.models.spec import ModelSpec, check_tokens
from biofm_jax.models.transformer import Biases


@dataclasses.dataclass(frozen=True)
class PairTransformerSpec(ModelSpec):
    """A transformer of pairs; the defaults are Uni-Mol's (Zhou et al. 2023, ChemRxiv
    10.26434/chemrxiv-2022-jjm0j-v4; github.com/deepmodeling/Uni-Mol).

    Every pair of atoms of a molecule begins with a bias per head, made of Gaussian kernels of
    their distance by the pair's elements. In each layer it is added to the attention logits, and
    the sum is the bias of the next layer: atoms and pairs speak with one another. The hidden
    states depend on distances alone, so that no rotation or shift of a molecule changes them;
    coordinates are moved along the differences of atoms, by weights of what attention added to
    the pairs, so that they turn and shift with the molecule.

    Attributes:
        vocabulary: number of token ids, of elements.
        layers: number of blocks.
        width: of the hidden states.
        heads: of attention, and the width of a pair.
        feedforward: width of the feed-forward's hidden layer; None: 4 x width.
        kernels: Gaussian kernels of a distance.
        activation: of the feed-forward and of the heads.
        norm_epsilon: added to the variance.
        final_norm: a norm after the last block.
        geometry: the heads that move coordinates and predict distances.
        dropout: on embeddings, branches and pooled vectors, when training.
        attention_dropout: on attention weights, when training.
        pooling: how `Outputs.pooled` is made.
        special: vocabulary ids that mean pooling leaves out.
        head: what makes `Outputs.logits`; None: nothing.
        init_std: standard deviation of initial weights.
        dtype: of the computation; parameters and pairs are float32 always.
        scan: one compiled block, run `layers` times; otherwise unrolled, same numbers.
        remat: what the backward pass computes again instead of keeping: nothing, or all but the
            states and pairs between the blocks.
    """

    vocabulary: int = 31
    layers: int = 15
    width: int = 512
    heads: int = 64
    feedforward: int | None = None
    kernels: int = 128
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-5
    final_norm: bool = True
    geometry: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.1
    pooling: Literal["mean", "first"] = "first"
    special: tuple[int, ...] = ()
    head: Head = dataclasses.field(default_factory=lambda: LanguageHead(tied=False))
    init_std: float = 0.02
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = True
    remat: Literal["none", "full"] = "none"

    @property
    def hidden_width(self) -> int:
        """Width of the feed-forward's hidden layer."""
        return 4 * self.width if self.feedforward is None else self.feedforward

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.width // self.heads

    @property
    def out_std(self) -> float:
        """Initial standard deviation of the projections back into the residual stream."""
        return self.init_std

    # What the modules it shares with transformers read.
    norm = "layer"
    gated = False
    biases = Biases()
    # What checks of an experiment ask of any model.
    causal = False
    positions = None
    token_dropout = None

    def check(self, data: DataSpec, mesh: tuple[int, int, int, int]) -> None:
        """See `ModelSpec`; the data must have coordinates, and no mesh may cut a row."""
        check_tokens(self, data, mesh)
        if data.shapes(1).coordinates is None:
            raise UserError(
                f"PairTransformerSpec reads coordinates, and {type(data).__name__} has none; set "
                "data=ConformerData(...), or another model"
            )
        if mesh[3] > 1:
            raise UserError(
                f"mesh.context is {mesh[3]}, and pairs of atoms cross every cut of a row; set "
                "--mesh.context 1 and put the devices on data or fsdp"
            )

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`; a pair's bias is counted, the heads of coordinates are not."""
        width, kernels = self.width, self.kernels
        layer = 4 * width * width + 2 * width * self.hidden_width + 2 * width * attended
        bias = attended * (kernels * kernels + kernels * self.heads)
        return 6.0 * (self.layers * layer + bias + head_weights(self, predicted, pooled))

    def build(self) -> Model:
        """The model's pure functions; `apply` reads `Batch.coordinates`.

        Of the options of `Model.apply` there are `rngs`, `train`, `collect` of "layers" and
        "attentions", and `embedded`.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        _check(self)

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            return init_pairs(self, rng)

        def apply(params, batch, **options):
            return apply_pairs(self, params, batch, **options)

        def axes(params):
            names = pair_axes(self)
            return jax.tree.map(lambda _, leaf: leaf, params, names)

        return Model(init, apply, axes, self)


def _check(spec: PairTransformerSpec) -> None:
    for field in ("vocabulary", "layers", "width", "heads", "hidden_width", "kernels"):
        _demand(getattr(spec, field) > 0, field, getattr(spec, field), "a positive number")
    need = f"a divisor of width={spec.width}"
    _demand(spec.width % spec.heads == 0, "heads", spec.heads, need)
    for field in ("dropout", "attention_dropout"):
        rate = getattr(spec, field)
        _demand(0.0 <= rate < 1.0, field, rate, "at least 0 and below 1")
    _demand(spec.norm_epsilon > 0.0, "norm_epsilon", spec.norm_epsilon, "above 0")
    known, need = range(spec.vocabulary), f"below vocabulary={spec.vocabulary}"
    _demand(all(token in known for token in spec.special), "special", spec.special, need)


def _demand(holds: bool, field: str, value, need: str) -> None:
    if not holds:
        raise UserError(f"PairTransformerSpec.{field} is {value!r}; it must be {need}")
