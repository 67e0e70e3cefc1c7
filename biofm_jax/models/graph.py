"""Graph isomorphism networks with edge features over packed graphs (GIN; Xu et al. 2019,
arXiv:1810.00826; with edges Hu et al. 2020, arXiv:1905.12265)."""

import dataclasses
from typing import Literal

import jax

from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.models.flops import head_weights
from biofm_jax.models.graph_stack import apply_graph, graph_axes, init_graph
from biofm_jax.models.heads import Activation, Head, ProjectionHead
from biofm_jax.models.spec import ModelSpec, check_tokens
from biofm_jax.models.transformer import Biases


@dataclasses.dataclass(frozen=True)
class GraphSpec(ModelSpec):
    """A graph network; the defaults are MolCLR's GIN (Wang et al. 2022,
    doi 10.1038/s42256-022-00447-x): five layers of width 300.

    Layer l is `h_v <- norm(MLP(sum_u message(h_u, e_uv)))`, the sum over the neighbours of v and v
    itself, with an activation between the layers. It differs from MolCLR in the norm: a LayerNorm
    of each atom, where MolCLR normalises over the batch. Statistics of a batch would make an
    example's output depend on its neighbours, on packing, microbatches and devices, and be a
    state beside the parameters.

    Attributes:
        vocabulary: number of token ids, of atom types.
        features: number of classes of each feature of an atom that is read: the first columns of
            the batch's.
        bonds: the same of the features of a bond, of which class 1 is the first.
        layers: number of blocks.
        width: of the hidden states.
        feedforward: width of the MLP's hidden layer; None: 2 x width.
        message: "sum": h_u + e_uv, and h_v plus a learned vector from v itself (MolCLR).
            "relu": relu(h_u + e_uv), and h_v from v itself (GINE, Hu et al. 2020).
        norm_epsilon: added to the variance.
        activation: of the MLP and between the layers.
        dropout: on each layer's output and on pooled vectors, when training.
        pooling: how `Outputs.pooled` is made.
        special: vocabulary ids that mean pooling leaves out.
        mask: id of the mask token, at whose atoms the features are hidden too.
        head: what makes `Outputs.logits`; None: nothing.
        init_std: standard deviation of initial weights.
        dtype: of the computation; parameters are float32 always.
        scan: one compiled block, run `layers` times; otherwise unrolled, same numbers.
        remat: what the backward pass computes again instead of keeping: nothing, or all.
    """

    vocabulary: int = 121
    features: tuple[int, ...] = ()
    bonds: tuple[int, ...] = (5,)
    layers: int = 5
    width: int = 300
    feedforward: int | None = None
    message: Literal["sum", "relu"] = "sum"
    norm_epsilon: float = 1e-5
    activation: Activation = "relu"
    dropout: float = 0.0
    pooling: Literal["mean", "first"] = "mean"
    special: tuple[int, ...] = ()
    mask: int | None = None
    head: Head = dataclasses.field(default_factory=ProjectionHead)
    init_std: float = 0.05
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = True
    remat: Literal["none", "full"] = "none"

    @property
    def hidden_width(self) -> int:
        """Width of the MLP's hidden layer."""
        return 2 * self.width if self.feedforward is None else self.feedforward

    @property
    def heads(self) -> int:
        """What tensor parallelism cuts here: the units of the MLP's hidden layer."""
        return self.hidden_width

    @property
    def out_std(self) -> float:
        """Initial standard deviation of the MLP's second layer."""
        return self.init_std

    # What the modules it shares with transformers read.
    norm = "layer"
    gated = False
    biases = Biases()
    # What checks of an experiment ask of a model that reads tokens.
    positions = None
    token_dropout = None

    def check(self, data, mesh) -> None:
        """See `ModelSpec`; the data must have graphs, and no mesh may cut a row."""
        check_graph(self, data, mesh)

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`; messages are sums over two or three neighbours, and not counted."""
        body = self.layers * 2 * self.width * self.hidden_width
        return 6.0 * (body + head_weights(self, predicted, pooled))

    def build(self) -> Model:
        """The model's pure functions; `apply` reads `Batch.graph`.

        Of the options of `Model.apply` there are `rngs`, `train`, `collect=("layers",)` and
        `embedded`.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        check_graph_fields(self)

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            return init_graph(self, rng)

        def apply(params, batch, **options):
            return apply_graph(self, params, batch, **options)

        def axes(params):
            names = graph_axes(self)
            return jax.tree.map(lambda _, leaf: leaf, params, names)

        return Model(init, apply, axes, self)


def check_graph(spec: ModelSpec, data, mesh: tuple[int, int, int, int]) -> None:
    """What every model of packed graphs asks of data and mesh.

    Raises:
        UserError: names the field and the fix.
    """
    check_tokens(spec, data, mesh)
    if data.shapes(1).graph is None:
        raise UserError(
            f"{type(spec).__name__} reads graphs, and {type(data).__name__} has none; set "
            "data=MoleculeGraphData(...), or another model"
        )
    if mesh[3] > 1:
        raise UserError(
            f"mesh.context is {mesh[3]}, and a graph's edges cross every cut of a row; set "
            "--mesh.context 1 and put the devices on data or fsdp"
        )


def check_graph_fields(spec) -> None:
    """Refuse sizes that no model of graphs can have.

    Raises:
        UserError: names the field.
    """
    for field in ("vocabulary", "layers", "width", "hidden_width"):
        demand(spec, getattr(spec, field) > 0, field, "a positive number")
    demand(spec, len(spec.bonds) > 0, "bonds", "the classes of at least one feature")
    for field in ("features", "bonds"):
        demand(spec, all(n > 0 for n in getattr(spec, field)), field, "positive numbers of classes")
    demand(spec, 0.0 <= spec.dropout < 1.0, "dropout", "at least 0 and below 1")
    demand(spec, spec.norm_epsilon > 0.0, "norm_epsilon", "above 0")
    known = range(spec.vocabulary)
    need = f"below vocabulary={spec.vocabulary}"
    demand(spec, spec.mask is None or spec.mask in known, "mask", need)
    demand(spec, all(token in known for token in spec.special), "special", need)
    if isinstance(spec.head, ProjectionHead) and spec.head.layers < 1:
        raise UserError(f"{type(spec).__name__}.head.layers is {spec.head.layers}; use 1 or more")


def demand(spec, holds: bool, field: str, need: str) -> None:
    """Refuse a field of a spec.

    Raises:
        UserError: unless `holds`.
    """
    if not holds:
        value = getattr(spec, field)
        raise UserError(f"{type(spec).__name__}.{field} is {value!r}; it must be {need}")
