"""One image through a vision transformer: where it attends, and which pixels move an output."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.array_types import typed
from biofm_jax.data.bad_records import BadText
from biofm_jax.data.batch import Batch
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.pictures import Picture
from biofm_jax.data.pixels import fitted
from biofm_jax.errors import UserError
from biofm_jax.interpret.attention import rollout
from biofm_jax.interpret.gradients import integrated_gradients
from biofm_jax.models.image_embedding import unit_pixels
from biofm_jax.models.spec import ModelSpec
from biofm_jax.models.vision import VisionSpec


@dataclasses.dataclass(frozen=True)
class Maps:
    """What different methods say of the places of one image.

    Attributes:
        image: (h, w, c) float32 in [0, 1], as the model reads it.
        values: method -> (h, w) values, one for each pixel.
        gap: of integrated gradients: the sum of the attributions less the difference of outputs.
    """

    image: np.ndarray
    values: dict[str, np.ndarray]
    gap: float = 0.0


def image_batch(pixels: Any) -> Batch:
    """A batch of one image (h, w, c)."""
    ids = np.zeros((1, 1), np.int32)
    return Batch(ids, ids + 1, ids, ids, images=pixels[None])


def read_image(encoder: Encoder, picture: str) -> Float[np.ndarray, "h w c"]:
    """A picture as the encoder reads it, float32 in [0, 1].

    Raises:
        UserError: it cannot be read, or the model reads volumes.
    """
    (example,) = encoder.tokenize([picture])
    if example.pixels.ndim != 3:
        raise UserError(
            f"{encoder.name} reads volumes; pictures of what it sees are of flat images"
        )
    return np.asarray(unit_pixels(example.pixels))


def attention_maps(encoder: Encoder, image: Float[np.ndarray, "h w c"], seed: int = 0) -> Maps:
    """Which patches the pooled vector draws on.

    "rollout" is the flow through all layers (`attention.rollout`), "last layer" the mean over the
    heads of the last block's attention; both from the class token to the patches, or, where the
    model pools by the mean, the mean over all patches that attend. Each sums to 1 over patches.

    Args:
        encoder: of a vision transformer.
        image: as `read_image` gives it.
        seed: of random parameters.

    Raises:
        UserError: the model is no vision transformer.
    """
    spec, params = encoder.spec.reader(encoder.params_for(seed))
    if not isinstance(spec, VisionSpec):
        raise UserError(f"{encoder.name} is no vision transformer: it has no attention to show")
    weights = np.asarray(_attentions(spec)(params, image), np.float64)[:, 0]
    front = weights.shape[-1] - int(np.prod(spec.image_grid))
    reads = slice(0, 1) if spec.pooling == "first" else slice(front, None)
    values = {}
    for name, flow in (
        ("rollout", rollout(weights.astype(np.float32))),
        ("last layer", weights[-1].mean(0)),
    ):
        patches = flow[reads, front:].mean(0)
        values[name] = over_pixels(patches / patches.sum(), spec)
    return Maps(image, values)


def gradient_maps(
    encoder: Encoder,
    image: Float[np.ndarray, "h w c"],
    weights: Float[np.ndarray, " d"],
    seed: int = 0,
    steps: int = 64,
) -> Maps:
    """Which pixels move a linear readout of the pooled vector.

    "gradient" is its size (the largest over channels), "gradient x input" and "integrated
    gradients" are signed, summed over channels, both against an image of the model's mean colour.

    Args:
        encoder: of images.
        image: as `read_image` gives it.
        weights: of the readout.
        seed: of random parameters.
        steps: points of the integral; 0 leaves integrated gradients out.

    Raises:
        UserError: the attributions miss the difference of outputs: too few steps.
    """
    spec, params = encoder.spec.reader(encoder.params_for(seed))
    weights = jnp.asarray(weights, jnp.float32)
    mean = getattr(spec, "mean", (0.5,) * image.shape[-1])
    baseline = np.broadcast_to(np.asarray(mean, np.float32), image.shape)

    score, gap = _readout(spec), 0.0
    with jax.default_matmul_precision("highest"):
        slope = np.asarray(_slope(spec)(jnp.asarray(image, jnp.float32), params, weights))
    values = {
        "gradient": np.abs(slope).max(-1),
        "gradient x input": (slope * (image - baseline)).sum(-1),
    }
    if steps:
        with jax.default_matmul_precision("highest"):
            added, gap = integrated_gradients(
                lambda pixels: score(pixels, params, weights), image, baseline, steps
            )
        values["integrated gradients"] = added.sum(-1)
    return Maps(image, values, gap)


def pooled_vector(
    encoder: Encoder, image: Float[np.ndarray, "h w c"], seed: int = 0
) -> Float[np.ndarray, " d"]:
    """What the encoder says of one image, as `read_image` gives it."""
    spec, params = encoder.spec.reader(encoder.params_for(seed))
    return np.asarray(_pooled(spec)(params, image))


@functools.lru_cache(maxsize=4)
def _attentions(spec: VisionSpec) -> Callable:
    model = spec.build()

    def run(params, image):
        return model.apply(params, image_batch(image), collect=("attentions",)).attentions

    return jax.jit(run)


@functools.lru_cache(maxsize=4)
def _pooled(spec: ModelSpec) -> Callable:
    model = spec.build()
    return jax.jit(lambda params, image: model.apply(params, image_batch(image)).pooled[0, 0])


@functools.lru_cache(maxsize=4)
def _readout(spec: ModelSpec) -> Callable:
    """Pixels (h, w, c), parameters and weights (d,) -> () float32."""
    model = spec.build()
    return lambda pixels, params, weights: (
        model.apply(params, image_batch(pixels)).pooled[0, 0] @ weights
    )


@functools.lru_cache(maxsize=4)
def _slope(spec: ModelSpec) -> Callable:
    return jax.jit(jax.grad(_readout(spec)))


@typed
def over_pixels(patches: Float[np.ndarray, " n"], spec: VisionSpec) -> Float[np.ndarray, "h w"]:
    """A value of each patch, in raster order, on each of its pixels."""
    values = patches.reshape(spec.image_grid)
    for axis, size in enumerate(spec.patch):
        values = np.repeat(values, size, axis=axis)
    return values


@typed
def over_patches(
    pixels: Float[np.ndarray, "h w"], patch: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """The sum of the sizes of values over the patch that each pixel belongs to."""
    high, wide = patch
    grid = np.abs(pixels).reshape(pixels.shape[0] // high, high, pixels.shape[1] // wide, wide)
    return np.repeat(np.repeat(grid.sum((1, 3)), high, axis=0), wide, axis=1)


def read_mask(data: ImageData, picture: Picture, folder) -> Bool[np.ndarray, "h w"] | None:
    """The mask of a picture, at the model's size; None where there is none, or it is empty.

    Args:
        data: brings it to the size, as the image.
        picture: whose file's name the mask has, with the ending .png.
        folder: of the masks.

    Raises:
        UserError: the mask cannot be read.
    """
    name = picture.file.with_suffix(".png").name
    if not (folder / name).is_file():
        return None
    try:
        pixels = Picture(name, folder).read().pixels[..., :1]
        # The mask has no spacing of its own: its pixels lie on the image's.
        factors = data.factors(picture.read()) if data.spacing else ()
        mask = np.where(pixels > 0, np.uint8(255), np.uint8(0))
        cover = fitted(mask, data.image, data.fit, factors)[..., 0]
    except BadText as error:
        raise UserError(f"{folder / name}: {error.reason}; {error.fix}") from error
    # As large a share of the image as before, the pixels it covers most: of half a pixel and more
    # thin vessels have none.
    count = round(cover.sum() / 255)
    if not count:
        return None
    return cover >= max(1, np.partition(cover.reshape(-1), -count)[-count])
