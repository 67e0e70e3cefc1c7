"""Vision transformers: the one stack over patches of an image or a volume."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.models.checks import check_spec
from biofm_jax.models.flops import transformer_flops
from biofm_jax.models.heads import Head, LanguageHead
from biofm_jax.models.image_embedding import (
    CLASS,
    REGISTER,
    ImageEmbedding,
    image_tokens,
)
from biofm_jax.models.positions import NoPositions, Positions
from biofm_jax.models.spec import check_tensor
from biofm_jax.models.stack import apply_stack, init_stack, stack_axes
from biofm_jax.models.transformer import TransformerSpec


@dataclasses.dataclass(frozen=True)
class VisionSpec(TransformerSpec):
    """A vision transformer; the defaults are ViT-S/16 (Dosovitskiy et al. 2021, arXiv:2010.11929;
    Touvron et al. 2021, arXiv:2012.12877).

    `pooling` may also be the class token with the mean of the patches behind it, which doubles the
    width ("first+mean"), or a learned query's attention (see `attention_pool.py`).

    `apply` reads `Batch.images`. A batch as the pipeline gives it, one token an image, becomes a
    row of class token, registers and patches; one with such rows (`image_tokens`) is read as it
    is, so that an objective can leave patches out or mask them.

    Attributes:
        image: pixels of an image along each axis, (h, w) or (z, h, w), that training sees.
        patch: pixels of a patch along each axis.
        channels: of a pixel.
        mean: of each channel, subtracted from pixels between 0 and 1.
        deviation: of each channel, by which they are divided (both of ImageNet).
        grid_positions: a learned vector for each patch, fixed sines and cosines, or none.
        grid: patches along each axis of the table of positions; None: those of `image`. Images
            of another grid get resampled positions.
        antialias: the resampling blurs where it shrinks (DINOv2 with registers).
        class_token: a learned token in front of the patches.
        class_position: which has a position of its own.
        registers: learned tokens behind it, without positions (Darcet et al. 2024,
            arXiv:2309.16588).
        register_positions: they have some nevertheless, as in models of timm.
        patch_bias: the projection of patches has one.
        mask_vector: a learned vector in the place of patches that an objective masks.
    """

    vocabulary: int = 4  # kinds of tokens: patch, class, register, mask
    layers: int = 12
    width: int = 384
    heads: int = 6
    norm_epsilon: float = 1e-6
    positions: Positions = dataclasses.field(default_factory=NoPositions)
    pooling: Literal["mean", "first", "first+mean", "attention"] = "first"
    special: tuple[int, ...] = (CLASS, REGISTER)
    head: Head = None
    image: tuple[int, ...] = (224, 224)
    patch: tuple[int, ...] = (16, 16)
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)
    grid_positions: Literal["learned", "sincos", "none"] = "learned"
    grid: tuple[int, ...] | None = None
    antialias: bool = False
    class_token: bool = True
    class_position: bool = True
    registers: int = 0
    register_positions: bool = False
    patch_bias: bool = True
    mask_vector: bool = False

    @property
    def image_grid(self) -> tuple[int, ...]:
        """Patches along each axis of an image of the size that training sees."""
        return tuple(pixels // patch for pixels, patch in zip(self.image, self.patch))

    @property
    def position_grid(self) -> tuple[int, ...]:
        """Patches along each axis of the table of positions."""
        return self.image_grid if self.grid is None else self.grid

    @property
    def tokens(self) -> int:
        """Of the row that an image becomes."""
        return self.class_token + self.registers + math.prod(self.image_grid)

    def embedding(self) -> ImageEmbedding:
        """See `TransformerSpec`."""
        return ImageEmbedding(self)

    def blank(self) -> Batch:
        """See `TransformerSpec`; a black image of which one patch is shown."""
        ids = jnp.zeros((1, 1), jnp.int32)
        images = jnp.zeros((1, *self.image, self.channels), jnp.uint8)
        whole = image_tokens(self, Batch(ids, ids + 1, ids, ids, images=images))
        shown = self.class_token + self.registers + 1
        names = ("tokens", "segment_ids", "positions")
        return whole.replace(**{name: getattr(whole, name)[:, :shown] for name in names})

    def rows(self, batch: Batch) -> Batch:
        """See `ModelSpec`: a row of tokens for each image."""
        return image_tokens(self, batch) if batch.tokens.shape[1] == 1 else batch

    def check(self, data, mesh) -> None:
        """See `ModelSpec`; the data must have images of the model's size."""
        check_image_data(self, data, mesh, self.writer)

    def places(self, batch) -> int:
        """See `ModelSpec`."""
        return batch.tokens.size * (self.tokens if batch.tokens.shape[1] == 1 else 1)

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for an image, which the pipeline counts as one token."""
        tokens = self.tokens
        size = math.prod(self.patch) * self.channels
        projection = 6.0 * math.prod(self.image_grid) * size * self.width
        return projection + tokens * transformer_flops(self, tokens, 0.0, pooled / tokens)

    def build(self) -> Model:
        """The model's pure functions.

        Raises:
            UserError: fields that do not go together; the message names them.
        """
        check_vision(self)

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            return init_stack(self, rng)

        def apply(params, batch: Batch, **options):
            return apply_stack(self, params, self.rows(batch), **options)

        def axes(params):
            names = stack_axes(self)
            return jax.tree.map(lambda _, leaf: leaf, params, names)

        return Model(init, apply, axes, self)


def check_image_data(spec: VisionSpec, data, mesh: tuple[int, int, int, int], writer: str) -> None:
    """Refuse data without images of the model's size, and a mesh that cannot cut the model.

    Args:
        spec: the model.
        data: the experiment's, not opened.
        mesh: sizes of data, fsdp, tensor and context.
        writer: the part of the experiment that has the model.

    Raises:
        UserError: names the fields.
    """
    images = data.shapes(1).images
    if images is None:
        raise UserError(
            f"{type(spec).__name__} reads images, and {type(data).__name__} has none; set "
            "data=ImageData(...), or another model"
        )
    check_view(spec, images.shape, mesh, writer)


def check_view(
    spec: VisionSpec, shape: tuple[int, ...], mesh: tuple[int, int, int, int], writer: str
) -> None:
    """Refuse images that the model cannot read and a mesh that cannot cut it.

    Args:
        spec: the model, or one of two towers.
        shape: (b, [z,] h, w, c) of the data's batch.
        mesh: sizes of data, fsdp, tensor and context.
        writer: the part of the experiment that has the model, such as `model.first`.

    Raises:
        UserError: names the fields.
    """
    check_images(spec, shape, writer)
    check_tensor(spec.heads, mesh[2], f"{writer}.heads")
    if spec.tokens % mesh[3]:
        raise UserError(
            f"mesh.context {mesh[3]} must divide the {spec.tokens} tokens of an image; set "
            "--mesh.context 1 and put the devices on data or fsdp, or change "
            f"{writer}.registers"
        )


def check_images(spec: VisionSpec, shape: tuple[int, ...], writer: str) -> None:
    """Refuse images of another size than the model's.

    Args:
        spec: the model.
        shape: (b, [z,] h, w, c) of the data's batch.
        writer: the part of the experiment that has the model.

    Raises:
        UserError: names the fields.
    """
    size = tuple(shape[1:-1])
    if size != spec.image:
        words = " ".join(map(str, size))
        raise UserError(
            f"data.image is {size} pixels and {writer}.image {spec.image}; set --{writer}.image "
            f"{words}, or --data.image {' '.join(map(str, spec.image))}"
        )
    if shape[-1] != spec.channels:
        raise UserError(
            f"the images have {shape[-1]} channels and {writer}.channels is {spec.channels}; set "
            f"--{writer}.channels {shape[-1]} (with as many of {writer}.mean and "
            f"{writer}.deviation), or --data.channels {spec.channels}"
        )


def check_vision(spec: VisionSpec) -> None:
    """Refuse what cannot be built.

    Raises:
        UserError: names the field, its value and the values that would do.
    """
    check_spec(spec)

    def demand(holds: bool, field: str, need: str) -> None:
        if not holds:
            raise UserError(f"VisionSpec.{field} is {getattr(spec, field)!r}; it must be {need}")

    axes = len(spec.image)
    demand(axes in (2, 3), "image", "pixels along two axes, or three of a volume")
    demand(len(spec.patch) == axes and min(spec.patch) > 0, "patch", f"{axes} positive numbers")
    fits = all(n > 0 and n % p == 0 for n, p in zip(spec.image, spec.patch))
    demand(fits, "image", f"divisible by patch={spec.patch}")
    for field in ("mean", "deviation"):
        need = f"one number for each of channels={spec.channels}"
        demand(len(getattr(spec, field)) == spec.channels, field, need)
    demand(all(x > 0 for x in spec.deviation), "deviation", "above 0")
    demand(spec.registers >= 0, "registers", "0 or more")
    good = spec.grid is None or (len(spec.grid) == axes and min(spec.grid) > 0)
    demand(good, "grid", f"{axes} positive numbers, or None")
    if spec.grid_positions == "sincos":
        need = f"divisible by {2 * axes} with grid_positions='sincos'"
        demand(spec.width % (2 * axes) == 0, "width", need)
    need = "False without registers, or without a position of the class token"
    whole = spec.registers and spec.class_position
    demand(whole or not spec.register_positions, "register_positions", need)
    need = "False without a class token or positions"
    placed = spec.class_token and spec.grid_positions != "none"
    demand(placed or not spec.class_position, "class_position", need)
    without = spec.pooling in ("mean", "attention")
    demand(spec.class_token or without, "pooling", "'mean' or 'attention' without a class token")
    need = "a projection, a prediction or None: patches are no vocabulary"
    demand(not isinstance(spec.head, LanguageHead), "head", need)
    demand(not spec.causal, "causal", "False")
