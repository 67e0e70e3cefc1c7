"""Images of an NPZ file in the layout of MedMNIST (Yang et al. 2023)."""

import functools
import zipfile
import zlib
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.pixels import Image

IMAGES, LABELS = "_images", "_labels"


def read_npz(path: Path, member: str = "") -> Image:
    """One image of an NPZ file.

    Args:
        path: with arrays (n, h, w), (n, h, w, c) or (n, z, h, w); c is at most 4.
        member: array and number of the image, such as `test_images/17`.

    Raises:
        BadText: the file is damaged, or has no such image.
    """
    name, _, number = member.partition("/")
    if not number.isdigit():
        raise BadText(f"{member!r} names no image of an NPZ file", "write ARRAY/NUMBER behind #")
    array = npz_array(path, name)
    if int(number) >= len(array):
        raise BadText(f"{name} holds {len(array)} images, none of number {number}", "count from 0")
    return Image(array[int(number)] if _coloured(array) else array[int(number)][..., None])


def npz_slices(path: Path, member: str) -> int:
    """Slices of an image; 0 of a flat one. Arguments and errors as of `read_npz`."""
    array = npz_array(path, member.partition("/")[0])
    return array.shape[1] if array.ndim + (not _coloured(array)) == 5 else 0


def npz_members(path: Path) -> list[tuple[str, str, str]]:
    """(member, label, split) of each image; the label of several classes joins them by `;`.

    Of an image that has none of several it is "none": it was looked at, and is not unlabelled.

    Raises:
        BadText: the file is damaged, holds no images, or fewer labels than images.
    """
    found = []
    for name in _names(path):
        split, is_images, rest = name.partition(IMAGES)
        if not is_images or rest:
            continue
        count = len(npz_array(path, name))
        labels = [""] * count
        if split + LABELS in _names(path):
            values = npz_array(path, split + LABELS)
            if len(values) != count:
                raise BadText(f"{len(values)} labels of {count} {split} images", "make them agree")
            labels = [_label(np.atleast_1d(value)) for value in values]
        found += [(f"{name}/{i}", label, split) for i, label in enumerate(labels)]
    if not found:
        raise BadText("no array is named SPLIT_images", "use MedMNIST's layout")
    return found


def npz_array(path: Path, name: str) -> np.ndarray:
    """One array of the file, kept for the next call.

    Raises:
        BadText: the file is damaged or has no such array.
    """
    if name not in _names(path):
        raise BadText(f"there is no array {name!r}", f"choose one of {', '.join(_names(path))}")
    return _load(path, name, path.stat().st_mtime_ns)


def _names(path: Path) -> tuple[str, ...]:
    return _listed(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _listed(path: Path, changed: int) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise BadText(f"the NPZ file is cut short or damaged ({error})", "fetch it again") from None


@functools.lru_cache(maxsize=6)  # images and labels of three splits
def _load(path: Path, name: str, changed: int) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadText(f"array {name!r} is damaged ({error})", "fetch it again") from None


def _coloured(array: np.ndarray) -> bool:
    """Whether the last axis is channels, of (n, h, w, c) or (n, z, h, w, c)."""
    return array.ndim == 5 or (array.ndim == 4 and array.shape[-1] <= 4)


def _label(values: np.ndarray) -> str:
    if values.size == 1:
        return str(values.item())
    return ";".join(str(i) for i in np.flatnonzero(values)) or "none"
