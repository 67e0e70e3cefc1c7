"""Volumes in the patient's axes: RAS, the nearest turn of the array without resampling."""

import dataclasses

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.pixels import Image


def in_ras(image: Image, directions: np.ndarray) -> Image:
    """Turn a volume so that z runs to the head, y to the front and x to the right.

    Args:
        image: (z, y, x, c) along any three directions.
        directions: (3, 3) the direction of each array axis in the patient's x, y, z (RAS).

    Returns:
        The same voxels; an oblique volume stays oblique by at most 45 degrees.

    Raises:
        BadText: the directions do not span space.
    """
    order, flips = turn(directions)
    steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)

    def turned(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.transpose(values, (*order, 3))[steps])

    return dataclasses.replace(
        image,
        pixels=turned(image.pixels),
        spacing=tuple(image.spacing[axis] for axis in order) if image.spacing else (),
        voi=None if image.voi is None else turned(image.voi),
        ras=True,
    )


def turn(directions: np.ndarray) -> tuple[list[int], list[bool]]:
    """The array axis that becomes z, y and x, and whether each is reversed; see `in_ras`."""
    axes = _nearest(np.asarray(directions, np.float64))
    order = [int(np.flatnonzero(np.abs(axes) == world)[0]) for world in (3, 2, 1)]
    return order, [bool(axes[axis] < 0) for axis in order]


def _nearest(directions: np.ndarray) -> np.ndarray:
    """(3,) for each array axis the world axis it is nearest to: 1, 2, 3, negative if reversed."""
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    if not np.isfinite(directions).all() or (norms == 0).any():
        raise BadText("its axes have no direction (affine of zeros)", "set the header's affine")
    cosines = directions / norms
    if abs(np.linalg.det(cosines)) < 1e-3:
        raise BadText("its axes do not span space (singular affine)", "set the header's affine")
    found = np.zeros(3, np.int64)
    left = np.abs(cosines)
    for _ in range(3):  # the clearest axis first, each world axis once
        array, world = np.unravel_index(np.argmax(left), (3, 3))
        found[array] = (world + 1) * (1 if cosines[array, world] > 0 else -1)
        left[array, :] = -1
        left[:, world] = -1
    return found
