"""Metrics of segmentation masks: overlap, and distance of surfaces in millimetres."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from biofm_jax.errors import UserError


def dice(truth: Bool[np.ndarray, "..."], predicted: Bool[np.ndarray, "..."]) -> float:
    """Twice the overlap over the sum of both sizes (Dice 1945).

    Two empty masks agree: 1. One empty mask against a full one: 0.

    Args:
        truth: a mask of any dimension.
        predicted: a mask of the same shape.

    Raises:
        UserError: shapes differ.
    """
    truth, predicted = _masks(truth, predicted)
    size = int(truth.sum()) + int(predicted.sum())
    return 2 * int((truth & predicted).sum()) / size if size else 1.0


def hausdorff95(
    truth: Bool[np.ndarray, "..."],
    predicted: Bool[np.ndarray, "..."],
    spacing: Sequence[float],
) -> float:
    """95th percentile of the distance between the surfaces of two masks, in mm.

    A surface is the voxels with a face neighbour outside the mask; beyond the image is outside.
    The larger of both directions, each the percentile (linear interpolation) over the voxels of
    one surface of the distance to the nearest voxel of the other, as MONAI's
    `compute_hausdorff_distance(percentile=95)`.

    Two empty masks agree: 0. If one is empty, the diagonal of the image, the largest distance
    that two voxels can have (BraTS's rule): leaving a lesion out never pays.

    Args:
        truth: a mask of any dimension.
        predicted: a mask of the same shape.
        spacing: mm between voxel centres, one for each axis.

    Raises:
        UserError: shapes differ, or the spacing does not fit.
    """
    truth, predicted = _masks(truth, predicted)
    steps = np.asarray(spacing, np.float64)
    if steps.shape != (truth.ndim,) or not (steps > 0).all():
        raise UserError(
            f"spacing must be {truth.ndim} positive millimetres, one for each axis, not {spacing}"
        )
    if not truth.any() or not predicted.any():
        if truth.any() == predicted.any():
            return 0.0
        return float(np.linalg.norm((np.array(truth.shape) - 1) * steps))
    # Distances outside the box that holds both masks are never read.
    box = ndimage.find_objects((truth | predicted).astype(np.int8))[0]
    one, two = _surface(truth[box]), _surface(predicted[box])
    there = ndimage.distance_transform_edt(~two, sampling=steps)[one]
    back = ndimage.distance_transform_edt(~one, sampling=steps)[two]
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _masks(truth, predicted) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise UserError(f"masks of one image have shapes {truth.shape} and {predicted.shape}")
    for mask in (truth, predicted):
        if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
            raise UserError("a mask holds 0 and 1 alone: compare one label at a time")
    return truth.astype(bool), predicted.astype(bool)
