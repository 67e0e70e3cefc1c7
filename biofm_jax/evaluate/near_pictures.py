"""How alike pictures are, whatever their size, compression, brightness and turn.

A difference hash without its rounding: of a thumbnail it compares by how much each place is
brighter than its neighbours, where the hash keeps only whether. Of the 64 bits of the hash six
differ between most chest X-rays and the nearest other one.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from biofm_jax.data.pictures import Picture
from biofm_jax.data.pixels import quantised, resize, with_channels

SIDE = 16  # pixels of a thumbnail
_CELLS = 4_000_000  # scores held at once


@dataclasses.dataclass(frozen=True)
class PictureSimilarity:
    """A measure of similarity on n pictures: 1 less the angle between their differences of
    brightness, in right angles; of the eight ways to turn and mirror one of them, the best.

    Attributes:
        thumbnails: (n, 16, 16) float32 grey.
    """

    thumbnails: np.ndarray

    def at_least(self, threshold: float) -> str:
        """A threshold in words, with the correlation that it stands for."""
        cosine = math.cos(math.pi / 2 * (1 - threshold))
        return (
            f"a likeness of {threshold:g} or more (cosine {cosine:.3f} of the "
            "differences of brightness, however turned or mirrored)"
        )

    def nearest(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each picture of `rows`, the place in `columns` of the most alike, and how alike."""
        place, best = np.zeros(len(rows), np.int64), np.zeros(len(rows))
        if not len(columns):
            return place, best
        others = _differences(self.thumbnails[columns]).T
        step = max(1, _CELLS // len(columns))
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            plain = self.thumbnails[rows[some]]
            for mirrored in (plain, plain[:, :, ::-1]):
                for turns in range(4):
                    found = _differences(np.rot90(mirrored, turns, axes=(1, 2))) @ others
                    highest = found.max(1)
                    place[some] = np.where(highest > best[some], found.argmax(1), place[some])
                    best[some] = np.maximum(best[some], highest)
        return place, 1 - np.arccos(np.clip(best, 0, 1)) / (np.pi / 2)


def picture_similarity(pictures: Sequence[Picture]) -> PictureSimilarity:
    """The similarity of n pictures; of a volume its middle slice counts.

    Raises:
        UserError: a picture cannot be read; the message names it.
    """
    return PictureSimilarity(np.stack([_thumbnail(picture) for picture in pictures]))


def _thumbnail(picture: Picture) -> np.ndarray:
    pixels = picture.pixels()
    if pixels.ndim == 4:
        pixels = pixels[len(pixels) // 2]
    grey = with_channels(quantised(pixels, 16), 1) if pixels.shape[-1] in (1, 3) else pixels
    return resize(grey.astype(np.float32), (SIDE, SIDE)).mean(-1)


def _differences(thumbnails: np.ndarray) -> np.ndarray:
    """(n, 2 * 15 * 15) of length 1: each place less the one to the left, and the one above."""
    down = np.diff(thumbnails, axis=1)[:, :, 1:]
    across = np.diff(thumbnails, axis=2)[:, 1:]
    flat = np.concatenate([down, across], axis=1).reshape(len(thumbnails), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
