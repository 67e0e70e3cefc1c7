"""Features of a picture that no network made: colour, local binary patterns, co-occurrence."""

import numpy as np
from jaxtyping import Float, Int

from biofm_jax.array_types import typed
from biofm_jax.data.pixels import LUMA, quantised

POINTS = 8  # on the circle around a pixel
RADII = (1, 2, 3)  # pixels
LEVELS = 32  # of grey in a co-occurrence matrix
DISTANCES = (1, 2, 4)  # pixels
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))  # rows and columns: 0, 45, 90 and 135 degrees


def texture_features(pixels: np.ndarray) -> Float[np.ndarray, " d"]:
    """Colour, texture and grey-level statistics of one picture.

    Mean, deviation and skewness of each channel; the histogram of rotation-invariant uniform
    patterns at radius 1, 2 and 3; and contrast, dissimilarity, homogeneity, energy and correlation
    of grey levels at distance 1, 2 and 4, the mean over four directions.

    Args:
        pixels: (h, w, c) uint8 or uint16, each side above 6 pixels; 1 or 3 channels.

    Returns:
        (3 c + 45,) float64.
    """
    unit = quantised(pixels, 16) / np.float64(65535)
    grey = unit @ LUMA if unit.shape[-1] == 3 else unit.mean(-1)
    mean, deviation = unit.mean((0, 1)), unit.std((0, 1))
    third = ((unit - mean) ** 3).mean((0, 1))
    parts = [mean, deviation, third / np.maximum(deviation, 1e-6) ** 3]
    for radius in RADII:
        patterns = binary_patterns(grey, radius)
        parts.append(np.bincount(patterns.ravel(), minlength=POINTS + 2) / patterns.size)
    levels = np.minimum((grey * LEVELS).astype(np.int64), LEVELS - 1)
    for distance in DISTANCES:
        found = [
            cooccurrence_statistics(cooccurrence(levels, distance * down, distance * across))
            for down, across in DIRECTIONS
        ]
        parts.append(np.mean(found, axis=0))
    return np.concatenate(parts)


@typed
def binary_patterns(grey: Float[np.ndarray, "h w"], radius: int) -> Int[np.ndarray, "a b"]:
    """Rotation-invariant uniform local binary patterns (Ojala et al. 2002, doi
    10.1109/TPAMI.2002.1017623, equations 9 and 10).

    Args:
        grey: the picture.
        radius: pixels, of the circle of 8 points, which are read by bilinear interpolation.

    Returns:
        (h - 2 r, w - 2 r): how many points are at least as bright as the centre where the circle
        changes side at most twice, else 9.
    """
    inner = grey[radius:-radius, radius:-radius]
    angles = 2 * np.pi * np.arange(POINTS) / POINTS
    places = np.round(radius * np.stack([-np.sin(angles), np.cos(angles)], axis=1), 12)
    brighter = np.stack([_shifted(grey, radius, *place) >= inner - 1e-12 for place in places])
    changes = (brighter != np.roll(brighter, 1, axis=0)).sum(0)
    return np.where(changes <= 2, brighter.sum(0), POINTS + 1)


def _shifted(grey: np.ndarray, margin: int, down: float, across: float) -> np.ndarray:
    """The picture without its margin, read at a distance from each pixel."""
    top, left = int(np.floor(down)), int(np.floor(across))
    shares = (
        ((0, 1 - (down - top)), (1, down - top)),
        ((0, 1 - (across - left)), (1, across - left)),
    )
    height, width = grey.shape[0] - 2 * margin, grey.shape[1] - 2 * margin
    total = np.zeros((height, width))
    for row, vertical in shares[0]:
        for column, horizontal in shares[1]:
            if share := vertical * horizontal:
                y, x = margin + top + row, margin + left + column
                total += share * grey[y : y + height, x : x + width]
    return total


@typed
def cooccurrence(
    levels: Int[np.ndarray, "h w"], down: int, across: int
) -> Float[np.ndarray, "l l"]:
    """How often two grey levels stand at a distance: symmetric, of sum 1 (Haralick et al. 1973).

    Args:
        levels: 0 to `LEVELS` - 1.
        down: rows from one pixel to the other, 0 or more.
        across: columns, of either sign.
    """
    height, width = levels.shape
    one = levels[: height - down, max(0, -across) : width - max(0, across)]
    other = levels[down:, max(0, across) : width - max(0, -across)]
    counts = np.bincount((one * LEVELS + other).ravel(), minlength=LEVELS**2)
    both = counts.reshape(LEVELS, LEVELS).astype(np.float64)
    both += both.T
    return both / both.sum()


@typed
def cooccurrence_statistics(matrix: Float[np.ndarray, "l l"]) -> Float[np.ndarray, "5"]:
    """Contrast, dissimilarity, homogeneity, energy and correlation (1 where there is one level)."""
    i, j = np.indices(matrix.shape)
    centre = (matrix * i).sum()
    variance = (matrix * (i - centre) ** 2).sum()
    shared = (matrix * (i - centre) * (j - centre)).sum()
    return np.array(
        [
            (matrix * (i - j) ** 2).sum(),
            (matrix * np.abs(i - j)).sum(),
            (matrix / (1 + (i - j) ** 2)).sum(),
            np.sqrt((matrix**2).sum()),
            shared / variance if variance > 0 else 1.0,
        ]
    )
