"""Pixel arrays: what a reader gives, and its way to a wanted size, channels and depth."""

import dataclasses
import math
from typing import Literal

import numpy as np

from biofm_jax.data.bad_records import BadText

Fit = Literal["stretch", "crop", "pad"]

AUTOMATIC = (0.5, 99.5)  # per cent of the values that the automatic window leaves below and above
LARGEST = 1 << 29  # pixels of a resampled volume
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of red, green and blue


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
    """What a reader gives of a file.

    Attributes:
        pixels: (h, w, c) or (z, h, w, c): uint8, or any other numeric type in the file's unit
            (Hounsfield units of a CT).
        spacing: mm between neighbours along each axis but the last; () where the file says none.
        window: lowest and highest value shown, by the file; () where it says none.
        inverted: the lowest value is shown white (MONOCHROME1).
        voi: of the shape of `pixels`, float32 in [0, 1]: what the file's own curve shows, where no
            window does; None as a rule.
        ras: the axes are the patient's: z to the head, y to the front, x to the right.
    """

    pixels: np.ndarray
    spacing: tuple[float, ...] = ()
    window: tuple[float, ...] = ()
    inverted: bool = False
    voi: np.ndarray | None = None
    ras: bool = False


def shown(image: Image, window: tuple[float, ...] = ()) -> np.ndarray:
    """The picture as a viewer shows it.

    Args:
        image: of a reader.
        window: lowest and highest value shown, in the file's unit. Empty takes the file's own;
            where there is none, 8-bit pixels stay as they are, and of others the 0.5th to the
            99.5th percentile of this image are shown.

    Returns:
        uint8, or uint16 for pixels of more bits or under a window.

    Raises:
        BadText: a pixel is not finite, or all have one value.
    """
    pixels = image.pixels
    if not pixels.size:
        raise BadText("the image has no pixels", "drop it")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        raise BadText(f"{count:,} pixels are not finite", "fill them, or drop the image")
    low, high = pixels.min(), pixels.max()
    if low == high:
        raise BadText(f"every pixel is {low:g}: zero variance", "drop the image")
    if image.voi is not None and not window:
        return quantised(1 - image.voi if image.inverted else image.voi, 16)
    chosen = window or image.window or automatic_window(pixels)
    if not chosen or (pixels.dtype == np.uint8 and tuple(chosen) == (0, 255)):
        return 255 - pixels if image.inverted else pixels
    scaled = (pixels.astype(np.float32) - np.float32(chosen[0])) / np.float32(chosen[1] - chosen[0])
    unit = np.clip(scaled, 0, 1)
    return quantised(1 - unit if image.inverted else unit, 16)


def automatic_window(pixels: np.ndarray) -> tuple[float, ...]:
    """The window of pixels of which none is told; () for 8-bit ones, which stay as they are."""
    if pixels.dtype == np.uint8:
        return ()
    if pixels.dtype.kind == "f":  # a slice with others is named where it is shown
        pixels = pixels[np.isfinite(pixels)]
        if not pixels.size:
            return ()
    low, high = np.percentile(pixels, AUTOMATIC)
    if low == high:  # nearly all is background
        low, high = pixels.min(), pixels.max()
    return float(low), float(high)


def quantised(unit: np.ndarray, bits: int) -> np.ndarray:
    """Numbers in [0, 1], or unsigned integers of full scale, as uint8 or uint16 (`bits`)."""
    dtype = np.dtype({8: np.uint8, 16: np.uint16}[bits])
    if unit.dtype == dtype:
        return unit
    if unit.dtype.kind == "u":
        unit = unit / np.float32(np.iinfo(unit.dtype).max)
    return np.rint(np.clip(unit, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """(..., c) to (..., channels): grey is repeated, colour becomes luma.

    Raises:
        BadText: any other change of channels.
    """
    there = pixels.shape[-1]
    if there == channels:
        return pixels
    if there == 1:
        return np.repeat(pixels, channels, axis=-1)
    if there == 3 and channels == 1:
        return np.rint(pixels @ LUMA).astype(pixels.dtype)[..., None]
    raise BadText(f"the image has {there} channels, not {channels}", "choose among them first")


def resize(pixels: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Resample the leading axes, linearly, and averaged where the image shrinks.

    The triangle filter of Pillow's BILINEAR and torchvision's antialiased one, for any number of
    axes. Pixels are areas: the corners of the image stay where they are.

    Args:
        pixels: (..., c) with as many axes before the last as there are `sizes`.
        sizes: wanted pixels of each.

    Returns:
        The same dtype; integers are rounded.
    """
    if pixels.shape[:-1] == tuple(sizes):
        return pixels
    if pixels.dtype == np.uint8 and len(sizes) == 2 and pixels.shape[-1] in (1, 3):
        return _resize_bytes(pixels, sizes)
    result = pixels.astype(np.float32)
    for axis, size in enumerate(sizes):
        if result.shape[axis] != size:
            weights = _triangle(result.shape[axis], size)
            result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return np.rint(result).astype(pixels.dtype) if pixels.dtype.kind in "ui" else result


def fitted(
    pixels: np.ndarray,
    sizes: tuple[int, ...],
    fit: Fit = "stretch",
    factors: tuple[float, ...] = (),
) -> np.ndarray:
    """Bring the leading axes to wanted sizes.

    Args:
        pixels: (..., c).
        sizes: wanted pixels of each axis but the last.
        fit: "stretch" each axis by itself; "crop" to the middle after the axis that needs most
            fills its size; "pad" with zeros around after the axis that needs least does.
        factors: new pixels for an old one along each axis, such as old over new spacing in mm; the
            result is then cropped and padded to `sizes` around the middle, whatever `fit` says.

    Raises:
        BadText: by `factors` the image would have over half a billion pixels.
    """
    if not factors:
        ratios = [size / there for size, there in zip(sizes, pixels.shape)]
        if fit == "stretch":
            return resize(pixels, sizes)
        factors = (max(ratios) if fit == "crop" else min(ratios),) * len(sizes)
    there = pixels.shape[:-1]
    target = tuple(max(1, round(n * factor)) for n, factor in zip(there, factors))
    if math.prod(target) > LARGEST:
        raise BadText(
            f"resampled it would have {' x '.join(map(str, target))} pixels",
            "check the spacing that the file tells, or ask for a wider one",
        )
    return _centred(resize(pixels, target), sizes)


def _centred(pixels: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Crop and zero-pad each leading axis to its size around the middle."""
    result = np.zeros((*sizes, pixels.shape[-1]), pixels.dtype)
    source, target = [], []
    for there, size in zip(pixels.shape, sizes):
        kept = min(there, size)
        source.append(slice((there - kept) // 2, (there - kept) // 2 + kept))
        target.append(slice((size - kept) // 2, (size - kept) // 2 + kept))
    result[tuple(target)] = pixels[tuple(source)]
    return result


def _resize_bytes(pixels: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """By Pillow: (h, w, 1 or 3) uint8."""
    from PIL import Image as Pillow

    grey = pixels.shape[-1] == 1
    picture = Pillow.fromarray(pixels[..., 0] if grey else pixels)
    small = np.asarray(picture.resize((sizes[1], sizes[0]), Pillow.Resampling.BILINEAR))
    return small[..., None] if grey else small


def _triangle(there: int, wanted: int) -> np.ndarray:
    """(wanted, there) float32 weights that sum to 1 in each row."""
    scale = there / wanted
    support = max(scale, 1.0)
    centres = (np.arange(wanted) + 0.5) * scale
    distance = np.abs(np.arange(there) + 0.5 - centres[:, None]) / support
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
