"""What the layouts and configurations of all vision transformers share."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from biofm_jax.data.image_caption import ImageCaptionData
from biofm_jax.data.imaging import ImageData
from biofm_jax.errors import UserError
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.spec import ModelSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.zoo.config import PREPROCESSOR, read_config
from biofm_jax.zoo.tensors import Shape, Tensor, dense

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# The mean and deviation of CLIP's training images (github.com/openai/CLIP).
OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CAPTION = 256  # tokens of the longest texts in pretraining, BiomedCLIP's


@dataclasses.dataclass(frozen=True)
class Patches:
    """A convolution (d, c, h, w) that is as wide as its step; ours is a product with the pixels of
    a patch in raster order, channels last.

    Attributes:
        patch: pixels along each axis.
        channels: of a pixel.
    """

    patch: tuple[int, ...]
    channels: int

    def published_shape(self, shape: Shape) -> Shape:
        """The published tensor's shape, from the part's."""
        return (shape[1], self.channels, *self.patch)

    def to_ours(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """A published tensor as the part of that shape."""
        return np.moveaxis(array, (0, 1), (-1, -2)).reshape(shape)

    def to_published(self, array: np.ndarray) -> np.ndarray:
        """The inverse of `to_ours`."""
        whole = array.reshape(*self.patch, self.channels, array.shape[-1])
        return np.moveaxis(whole, (-1, -2), (0, 1))


def patch_projection(spec: VisionSpec, name: str, path: str = "embed/patches") -> Iterator[Tensor]:
    """The weight and bias of the projection of patches.

    Args:
        spec: the model's.
        name: published, without `.weight`.
        path: ours, without `/kernel`.
    """
    yield Tensor(f"{name}.weight", f"{path}/kernel", Patches(spec.patch, spec.channels))
    if spec.patch_bias:
        yield Tensor(f"{name}.bias", f"{path}/bias")


def split_attention(names: dict[str, str], root: str = "", bias: bool = True) -> Iterator[Tensor]:
    """Queries, keys, values and the output of attention, each a linear layer of its own.

    Args:
        names: published, by "q", "k", "v" and "out"; `{i}` stands for the layer.
        root: of our paths, with a slash at its end, or nothing.
        bias: of queries, keys and values.
    """
    path = f"{root}blocks/attention"
    for place, share in enumerate("qkv"):
        yield from dense(names[share], f"{path}/qkv", part=(None, place), bias=bias)
    yield from dense(names["out"], f"{path}/out", 2)


def sides(value: Any, axes: int = 2) -> tuple[int, ...]:
    """A size of a configuration along each axis: one number stands for all.

    Args:
        value: a number, a list of numbers, or `{"height": ..., "width": ...}`.
        axes: of the image.
    """
    if isinstance(value, dict):
        value = (value["height"], value["width"])
    return (int(value),) * axes if isinstance(value, int | float) else tuple(map(int, value))


def written(size: tuple[int, ...]) -> int | list[int]:
    """The inverse of `sides`."""
    return size[0] if len(set(size)) == 1 else list(size)


def image_fields(config: dict, norms: tuple[tuple, tuple]) -> dict[str, Any]:
    """Fields of `VisionSpec` that a `config.json` or `preprocessor_config.json` says of images.

    Args:
        config: both files' contents.
        norms: mean and deviation of the family, where neither file says any.

    Raises:
        UserError: other numbers of channels.
    """
    mean = tuple(config.get("image_mean", norms[0]))
    deviation = tuple(config.get("image_std", norms[1]))
    channels = config.get("num_channels", 3)
    if len(mean) != channels:
        if "image_mean" in config or len(set(mean)) > 1:
            raise UserError(
                f"config.json: num_channels is {channels}, and image_mean has {len(mean)} numbers"
            )
        mean, deviation = mean[:1] * channels, deviation[:1] * channels
    image, patch = sides(config["image_size"]), sides(config["patch_size"])
    return {
        # A convolution does not reach the margin that is left over (SigLIP's 384 pixels by 14).
        "image": tuple(pixels // step * step for pixels, step in zip(image, patch)),
        "patch": patch,
        "channels": channels,
        "mean": mean,
        "deviation": deviation,
    }


def image_config(spec: VisionSpec, norms: tuple[tuple, tuple]) -> dict[str, Any]:
    """The inverse of `image_fields`."""
    found = {
        "image_size": written(spec.image),
        "patch_size": written(spec.patch),
        "num_channels": spec.channels,
    }
    known = tuple(norm if spec.channels == 3 else norm[:1] * spec.channels for norm in norms)
    if (spec.mean, spec.deviation) != known:
        found |= {"image_mean": list(spec.mean), "image_std": list(spec.deviation)}
    return found


def class_count(config: dict) -> int:
    """Classes of a published classifier."""
    labels = config.get("id2label")
    return len(labels) if labels else config.get("num_labels", 2)


def with_preprocessor(config: dict, folder: Path) -> dict:
    """A configuration with what the published preprocessing of images says, where it is there.

    Args:
        config: the content of `config.json`, which comes first.
        folder: of the published files.

    Raises:
        UserError: the file beside it is no JSON object.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        return config
    said = read_config(path)
    fields = ("image_mean", "image_std") + ("crop_size",) * said.get("do_center_crop", True)
    return {name: said[name] for name in fields if said.get(name)} | config


def image_data(spec: ModelSpec, cropped: bool) -> ImageData | None:
    """How images become the input of a model; None for one that reads no images.

    Args:
        spec: the model's.
        cropped: see `Family`.
    """
    tower, _ = spec.reader(None)
    if not isinstance(tower, VisionSpec):
        return None
    fit = "crop" if cropped else "stretch"
    return ImageData(image=tower.image, channels=tower.channels, fit=fit)


def caption_data(images: ImageData, spec: DualEncoderSpec, folder: Path) -> ImageCaptionData:
    """How images and texts become the input of two towers.

    Args:
        images: of the image tower.
        spec: of both.
        folder: with the files of the tokenizer.
    """
    tokens = min(spec.second.positions.maximum, CAPTION)
    return ImageCaptionData(
        image=images.image,
        channels=images.channels,
        fit=images.fit,
        pair_tokens=tokens,
        tokenizer_path=str(folder),
    )
