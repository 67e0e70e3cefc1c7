"""Where a slide holds tissue: coloured pixels against clear or grey glass."""

import numpy as np

LEAST = 0.05  # of saturation; glass and dust are greyer whatever Otsu's threshold says
SMOOTH = 2  # pixels around each over which saturation is averaged


def tissue_mask(pixels: np.ndarray) -> np.ndarray:
    """Tissue by saturation above Otsu's threshold, as CLAM finds it (Lu et al. 2021).

    Args:
        pixels: (h, w, 3) uint8 of the whole slide, some thousand pixels wide at most.

    Returns:
        (h, w) bool. Where the threshold is below 0.05 that takes its place, so that a slide without
        tissue gives none.
    """
    unit = pixels.astype(np.float32) / 255
    high = np.maximum(np.maximum(unit[..., 0], unit[..., 1]), unit[..., 2])
    low = np.minimum(np.minimum(unit[..., 0], unit[..., 1]), unit[..., 2])
    saturation = _averaged(np.where(high > 0, (high - low) / np.maximum(high, 1e-6), 0))
    inside = _averaged(high) > 0.1  # not the black around a scan
    return (saturation > max(otsu(saturation), LEAST)) & inside


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that parts numbers in [0, 1] with most variance between (Otsu 1979)."""
    counts, edges = np.histogram(values, bins, (0, 1))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    total = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = total / below - (total[-1] - total) / above
        between = np.where((below > 0) & (above > 0), below * above * apart**2, 0.0)
    # Of a plateau its middle: between two far classes any threshold does.
    best = np.flatnonzero(between == between.max())
    return float(edges[1:][best].mean())


def share_of_tissue(
    mask: np.ndarray, left: np.ndarray, top: np.ndarray, width: float, height: float
) -> np.ndarray:
    """(n,) share of tissue in rectangles given in pixels of the mask; outside of it is none."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    sums[1:, 1:] = mask.cumsum(0).cumsum(1)

    def ends(start, extent, most):
        first = np.clip(np.rint(start), 0, most - 1).astype(int)
        return first, np.clip(np.rint(start + extent), first + 1, most).astype(int)

    x, x_end = ends(left, width, mask.shape[1])
    y, y_end = ends(top, height, mask.shape[0])
    covered = sums[y_end, x_end] - sums[y, x_end] - sums[y_end, x] + sums[y, x]
    return covered / np.maximum((x_end - x) * (y_end - y), width * height)


def _averaged(values: np.ndarray) -> np.ndarray:
    """Mean over a square around each pixel."""
    h, w = values.shape
    size = 2 * SMOOTH + 1
    padded = np.pad(values, SMOOTH, mode="edge")
    rows = sum(padded[k : k + h] for k in range(size))
    return sum(rows[:, k : k + w] for k in range(size)) / size**2
