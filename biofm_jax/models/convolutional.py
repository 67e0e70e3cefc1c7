"""A small convolutional network of images: the simple method beside vision transformers."""

import dataclasses
import functools
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray, PyTree
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models import heads
from biofm_jax.models.api import Model, Outputs, gather, partitioned
from biofm_jax.models.dropout import row_keys
from biofm_jax.models.heads import Head, PredictionHead
from biofm_jax.models.image_embedding import unit_pixels
from biofm_jax.models.layers import ZEROS, Norm, normal, parameter
from biofm_jax.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class ConvolutionalSpec(ModelSpec):
    """Stages of a 3 x 3 convolution, a LayerNorm of each pixel's channels and ReLU, halved between.

    LayerNorm and not BatchNorm: an image's output does not depend on its neighbours.

    Attributes:
        image: pixels of an image, height and width.
        channels: of a pixel.
        stages: width of each stage.
        norm_epsilon: added to the variance.
        dropout: on pooled vectors, when training.
        pooling: how `Outputs.pooled` is made: the mean over the pixels of the last stage.
        head: what makes `Outputs.logits`; None: nothing.
        init_std: standard deviation of the head's initial weights.
    """

    image: tuple[int, int] = (28, 28)
    channels: int = 1
    stages: tuple[int, ...] = (16, 32, 64)
    norm_epsilon: float = 1e-5
    dropout: float = 0.0
    pooling: Literal["mean"] = "mean"
    head: Head = dataclasses.field(default_factory=PredictionHead)
    init_std: float = 0.02

    special: ClassVar[tuple[int, ...]] = ()

    @property
    def step(self) -> int:
        """What the sides of an image are divisible by."""
        return 2 ** (len(self.stages) - 1)

    @property
    def width(self) -> int:
        """Of `pooled`."""
        return self.stages[-1]

    def check(self, data, mesh) -> None:
        """See `ModelSpec`; the data must have flat images."""
        images = data.shapes(1).images
        if images is None or images.ndim != 4:
            raise UserError(
                f"{type(self).__name__} reads images, and {type(data).__name__} has none that are "
                "flat; set data=ImageData(...), or another model"
            )

    def train_flops(self, attended, predicted=0.0, pooled=0.0) -> float:
        """See `ModelSpec`: for an image, which the pipeline counts as one token."""
        pixels, before, total = self.image[0] * self.image[1], self.channels, 0.0
        for stage, width in enumerate(self.stages):
            total += pixels / 4**stage * 9 * before * width
            before = width
        return 6.0 * total

    def build(self) -> Model:
        """The model's pure functions; `apply` takes `rngs` and `train`.

        Raises:
            UserError: an image of sides that cannot be halved between the stages.
        """
        if not self.stages or any(side % self.step or side < 1 for side in self.image):
            raise UserError(
                f"ConvolutionalSpec.image is {self.image}; with {len(self.stages)} stages each "
                f"side must be divisible by {self.step}"
            )

        def init(rng, batch):
            """Float32 parameters; of `batch` nothing is read, all shapes are in the spec."""
            return nn.unbox(_boxed(self, rng))

        def apply(params, batch, *, rngs=None, train=False):
            return _apply(self, params, batch, rngs, train)

        def axes(params):
            return jax.tree.map(lambda _, leaf: leaf, params, _axes(self))

        return Model(init, apply, axes, self)


class Stages(nn.Module):
    """(b, h, w, c) images to the (b, h', w', d) states of the last stage."""

    spec: ConvolutionalSpec

    @nn.compact
    def __call__(self, images: AnyArray) -> AnyArray:
        x = unit_pixels(images) * 2 - 1
        for number, width in enumerate(self.spec.stages):
            if number:
                x = nn.max_pool(x, (2, 2), (2, 2))
            shape = (3, 3, x.shape[-1], width)
            scale = normal((2 / (9 * x.shape[-1])) ** 0.5)  # He et al. 2015, arXiv:1502.01852
            kernel = parameter(self, f"kernel_{number}", scale, shape, (None,) * 4)
            bias = parameter(self, f"bias_{number}", ZEROS, (width,), (None,))
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
            norm = Norm("layer", self.spec.norm_epsilon, True, name=f"norm_{number}")
            x = jax.nn.relu(norm(x + bias))
        return x


def _boxed(spec: ConvolutionalSpec, rng: jax.Array) -> PyTree:
    """Parameters with the names of their axes, made on a black image."""
    body, head = jax.random.split(rng)
    images = jnp.zeros((1, *spec.image, spec.channels))
    with partitioned(None):
        params = {"stages": Stages(spec).init(body, images)["params"]}
        if spec.head is not None:
            hidden = jnp.zeros((1, 1, spec.width))
            params["head"] = heads.init_head(spec, head, None, hidden)
    return params


@functools.lru_cache
def _axes(spec: ConvolutionalSpec) -> PyTree:
    """The logical names of every parameter's axes."""
    boxed = jax.eval_shape(functools.partial(_boxed, spec), jax.random.key(0))
    return jax.tree.map(
        lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
    )


def _apply(
    spec: ConvolutionalSpec, params: PyTree, batch: Batch, rngs: jax.Array | None, train: bool
) -> Outputs:
    """Run the model: `hidden` (b, 1, d) is the mean over the last stage's pixels."""
    if batch.images is None:
        raise UserError("a convolutional model reads images; set data=ImageData(...)")
    if train and spec.dropout and rngs is None:
        raise UserError("training with dropout needs a PRNG key: apply(..., rngs=key)")
    params = gather(params, _axes(spec), jnp.float32)
    x = Stages(spec).apply({"params": params["stages"]}, batch.images)
    x = x.mean((1, 2))[:, None]
    pooled = heads.pool(x, batch, spec.pooling, spec.special)
    keys = row_keys(rngs, batch.examples) if train and spec.dropout else None
    logits = heads.head_logits(spec, params.get("head"), None, x, pooled, batch, keys)
    return Outputs(x, pooled, logits)
