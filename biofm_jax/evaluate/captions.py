"""What written captions of images are worth, beside captions that were written for no image."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from biofm_jax.evaluate.bootstrap import interval, resampled_counts
from biofm_jax.evaluate.metrics_number import weighted_mean
from biofm_jax.evaluate.metrics_text import rouge

PIXELS = 1 << 24  # of the images on either side that are compared at a time


def rouge_of(written: Sequence[str], references: Sequence[str]) -> float:
    """ROUGE-L F1 of the most alike of an image's captions, the mean over what was written of it.

    Several references count by the best of them (Lin 2004, section 2.1).
    """
    best = [max(rouge(true, said, "L")[2] for true in references) for said in written]
    return float(np.mean(best))


def caption_report(
    written: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    known: Sequence[Sequence[str]],
    nearest: Sequence[int],
) -> dict:
    """ROUGE-L of n images and of two floors.

    Args:
        written: of each image, by the model.
        references: of each image, by people.
        known: the captions of each of m training images.
        nearest: (n,) which training image has the most alike pixels.

    Returns:
        `rouge_l`, the mean over images, with its 95 % interval over images that are drawn again;
        `rouge_l_most_frequent` of the training caption that is there most often (of as many the
        first), and `rouge_l_nearest_image` of the captions of the training image that is nearest
        in pixels, the mean over them.
    """
    common = Counter(text for texts in known for text in texts).most_common(1)[0][0]
    several = {
        "rouge_l": written,
        "rouge_l_most_frequent": [[common]] * len(references),
        "rouge_l_nearest_image": [known[number] for number in nearest],
    }
    scores = {
        name: np.array([rouge_of(*pair) for pair in zip(texts, references, strict=True)])
        for name, texts in several.items()
    }
    own = scores["rouge_l"]
    low, high = interval(resampled_counts(partial(weighted_mean, own), len(own)))
    means = {name: float(values.mean()) for name, values in scores.items()}
    return {"images": len(own), **means, "rouge_l_low": low, "rouge_l_high": high}


def nearest_images(pixels: np.ndarray, queries: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(n,) which of some images differs least from each of others, by the squares of pixels.

    Args:
        pixels: (m, ...) all images; may be a memory map.
        queries: (n,) numbers of images.
        among: (k,) numbers of images.
    """

    def of(numbers):
        return pixels[numbers].reshape(len(numbers), -1).astype(np.float32)

    step = max(1, PIXELS // int(np.prod(pixels.shape[1:])))
    found, best = np.zeros(len(queries), int), np.full(len(queries), np.inf)
    for first in range(0, len(queries), step):
        part = slice(first, first + step)
        asked = of(queries[part])
        for start in range(0, len(among), step):
            there = of(among[start : start + step])
            distance = (there**2).sum(1) - 2 * asked @ there.T
            place = distance.argmin(1)
            distance = distance[np.arange(len(asked)), place]
            found[part] = np.where(distance < best[part], start + place, found[part])
            best[part] = np.minimum(best[part], distance)
    return found
