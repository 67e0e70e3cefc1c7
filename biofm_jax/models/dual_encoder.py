"""Two towers that map two views of an example into one space (CLIP, Radford et al. 2021,
arXiv:2103.00020), such as a molecule's graph and its SMILES, or an image and its report."""

import dataclasses
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.positions import Positions
from biofm_jax.models.spec import ModelSpec, check_tensor, check_tokens
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.vision import VisionSpec, check_view

Tower = TransformerSpec | GraphSpec  # a VisionSpec is of the first kind


@dataclasses.dataclass(frozen=True)
class SharedSpace:
    """How the vectors of both towers are compared: by cosine over a temperature.

    Attributes:
        temperature: divides the cosines; where it starts, if it is learned.
        learned: whether it is: the logarithm of its inverse is a parameter (CLIP, section 2.4).
        bias: where a learned number that is added to the similarities starts (SigLIP, Zhai et al.
            2023, arXiv:2303.15343, which starts at -10); None: there is none.
    """

    temperature: float = 0.07
    learned: bool = True
    bias: float | None = None


@dataclasses.dataclass(frozen=True)
class DualEncoderSpec(ModelSpec):
    """Two models, each with a projection head of the same width.

    One without a head is compared by its pooled vector (SigLIP's image tower).

    Attributes:
        first: reads the batch.
        second: reads its `pair`.
        head: the space that both project into.
    """

    first: Tower = dataclasses.field(default_factory=lambda: TransformerSpec(head=ProjectionHead()))
    second: Tower = dataclasses.field(
        default_factory=lambda: TransformerSpec(head=ProjectionHead())
    )
    head: SharedSpace = dataclasses.field(default_factory=SharedSpace)

    # What others ask of any model that reads tokens.
    token_dropout = None

    @property
    def vocabulary(self) -> int:
        """Number of token ids of the first tower."""
        return self.first.vocabulary

    @property
    def layers(self) -> int:
        """Blocks of both towers."""
        return self.first.layers + self.second.layers

    @property
    def width(self) -> int:
        """Of the wider tower."""
        return max(self.first.width, self.second.width)

    @property
    def heads(self) -> int:
        """Of the first tower."""
        return self.first.heads

    @property
    def positions(self) -> Positions | None:
        """Of the first tower."""
        return self.first.positions

    def check(self, data, mesh) -> None:
        """See `ModelSpec`; the data must be of pairs, each view as its tower reads it."""
        shapes = data.shapes(1)
        if shapes.pair is None or not hasattr(data, "pair_vocabulary"):
            raise UserError(
                f"DualEncoderSpec reads two different views, and {type(data).__name__} has one; "
                "set data=MoleculePairData(...) or data of images with captions, or another model"
            )
        if isinstance(self.first, VisionSpec):
            self._check_pictures("first", data, shapes.images, mesh)
        else:
            self._check_first(data, mesh)
        if isinstance(self.second, VisionSpec):
            self._check_pictures("second", data, shapes.pair.images, mesh)
        else:
            self._check_second(data, shapes.pair, mesh)

    def _check_pictures(self, name: str, data, images, mesh) -> None:
        if images is None:
            raise UserError(
                f"model.{name} is a VisionSpec, and the {name} view of {type(data).__name__} has "
                "no images; make it the other tower, or choose other data"
            )
        check_view(getattr(self, name), images.shape, mesh, f"model.{name}")

    def _check_first(self, data, mesh) -> None:
        first = SimpleNamespace(
            vocabulary=self.first.vocabulary,
            heads=self.first.heads,
            positions=self.first.positions,
            writer="model.first",
            vocabulary_paths=("model.first.vocabulary",),
        )
        check_tokens(first, data, mesh)
        self.first.check(data, mesh)

    def _check_second(self, data, pair, mesh) -> None:
        check_tensor(self.second.heads, mesh[2], "model.second.heads")
        if isinstance(self.second, GraphSpec) and pair.graph is None:
            raise UserError(
                f"model.second is a GraphSpec, and the second view of {type(data).__name__} has no "
                "graph; make it model.first"
            )
        if data.pair_vocabulary is None:
            raise UserError(
                f"model.second reads tokens, and the second view of {type(data).__name__} has "
                "none; make it a VisionSpec, or choose other data"
            )
        if (size := data.pair_vocabulary.size) != self.second.vocabulary:
            raise UserError(
                f"model.second.vocabulary is {self.second.vocabulary}, but the second view of "
                f"{type(data).__name__} has {size} tokens; set --model.second.vocabulary {size}"
            )
        tokens = pair.tokens.shape[1]
        limit = getattr(self.second.positions, "maximum", None)
        if limit is not None and tokens > limit:
            raise UserError(
                f"data.pair_tokens {tokens} is longer than the {limit} positions of the second "
                "tower; lower it or raise --model.second.positions.maximum"
            )
        if tokens % mesh[3]:
            raise UserError(f"mesh.context {mesh[3]} must divide data.pair_tokens {tokens}")

    def reader(self, params):
        """The first tower."""
        return self.first, None if params is None else params["first"]

    def stacks(self):
        """See `ModelSpec`."""
        return {"first": self.first, "second": self.second}

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for a token of each view, as if they were equally long.

        An image is one token.
        """
        towers = (self.first, self.second)
        return sum(tower.train_flops(attended, predicted, pooled) for tower in towers)

    def places(self, batch) -> int:
        """See `ModelSpec`: of both views."""
        return self.first.places(batch) + self.second.places(batch.pair)

    def batch_flops(self, batch, attended, predicted=0.0) -> float:
        """See `ModelSpec`: each view by its tower, both views attended alike in their rows."""
        longer = batch.pair.tokens.shape[1] / batch.tokens.shape[1]
        return self.first.batch_flops(batch, attended, predicted) + self.second.batch_flops(
            batch.pair, attended * longer, predicted
        )

    def build(self) -> Model:
        """The model's pure functions.

        Parameters are `{"first": ..., "second": ..., "space": {"scale", "bias"}}`, the last two
        where they are learned. `Outputs` is that of the first tower; its `pair` is that of the
        second, `scale` the logarithm of the inverse temperature, and `bias` what is added to
        similarities, or None. Options of `apply` go to both towers.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        _check(self)
        first, second = self.first.build(), self.second.build()
        start = {"scale": math.log(1.0 / self.head.temperature), "bias": self.head.bias}
        learned = ["scale"] * self.head.learned + ["bias"] * (self.head.bias is not None)

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the specs."""
            keys = jax.random.split(rng)
            params = {"first": first.init(keys[0], None), "second": second.init(keys[1], None)}
            space = {name: jnp.float32(start[name]) for name in learned}
            return params | ({"space": space} if space else {})

        def apply(params, batch: Batch, *, rngs=None, **options):
            if batch.pair is None:
                raise UserError(
                    "a two-tower model reads batch.pair beside the batch, and this batch has none: "
                    "give data of pairs, such as MoleculePairData or images with captions"
                )
            alone = batch.replace(pair=None)
            other = None if rngs is None else jax.random.fold_in(rngs, 1)
            one = first.apply(params["first"], alone, rngs=rngs, **options)
            two = second.apply(params["second"], batch.pair, rngs=other, **options)
            space = {"scale": jnp.float32(start["scale"])} | params.get("space", {})
            return dataclasses.replace(one, pair=two, **space)

        def axes(params):
            names = {"first": first.axes(params["first"]), "second": second.axes(params["second"])}
            return names | ({"space": {name: () for name in learned}} if learned else {})

        return Model(init, apply, axes, self)


def _check(spec: DualEncoderSpec) -> None:
    for name in ("first", "second"):
        tower = getattr(spec, name)
        need = "ProjectionHead(width=...) of the same width in both towers, or None"
        _demand(isinstance(tower.head, ProjectionHead | None), f"{name}.head", tower.head, need)
    one, two = _space_width(spec.first), _space_width(spec.second)
    field = "second.width" if spec.second.head is None else "second.head.width"
    _demand(one == two, field, two, f"{one}, as of the first tower")
    need = f"{spec.first.dtype!r}, as of the first tower"
    _demand(spec.second.dtype == spec.first.dtype, "second.dtype", spec.second.dtype, need)
    temperature = spec.head.temperature
    _demand(temperature > 0, "head.temperature", temperature, "above 0")


def _space_width(tower: Tower) -> int:
    """Width of a tower's vectors: of its head, or without one of `pooled`."""
    if tower.head is not None:
        return tower.head.width
    return getattr(tower, "pooled_width", tower.width)


def _demand(holds: bool, field: str, value, need: str) -> None:
    if not holds:
        raise UserError(f"DualEncoderSpec.{field} is {value!r}; it must be {need}")
