"""The simple methods beside models of images: regressions on pixels and texture, a small network.

All are deterministic. Regressions choose nothing, so that validation images train them as well.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from biofm_jax.adapt.columns import most_likely
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.tuning import tuned_adapter
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.pictures import Picture
from biofm_jax.data.pixels import quantised, resize, with_channels
from biofm_jax.evaluate.texture import texture_features
from biofm_jax.models.convolutional import ConvolutionalSpec

SIDE = 28  # pixels of MedMNIST's images, to which pictures shrink for a regression on pixels
LARGEST = 64  # pixels of a side that the small network reads
KEPT = 1 << 14  # pictures whose features are remembered

Kind = Literal["binary", "class"]


@dataclasses.dataclass(frozen=True)
class PictureLogistic:
    """Logistic regression on features of pictures: an adapter.

    Attributes:
        kind: of the label: "binary" predicts the probability of 1, "class" class numbers.
        features: n pictures -> (n, d).
        strength: inverse penalty.
        standardised: each feature by the mean and deviation of what is fitted.
    """

    kind: Kind
    features: Callable[[Sequence[Picture]], np.ndarray]
    strength: float
    standardised: bool

    def __call__(self, train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        """As `Adapter`."""
        x = self.features((*train.texts, *valid.texts, *test.texts))
        fitted, new = x[: -len(test)], x[-len(test) :]
        columns = []
        for labels in np.concatenate([train.targets, valid.targets]).T:
            have = ~np.isnan(labels)
            columns.append(self._column(fitted[have], labels[have], new))
        return np.stack(columns, axis=1)

    def _column(self, x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        if len(np.unique(y)) == 1:
            return np.full(len(new), y[0])
        if self.standardised:
            scaler = StandardScaler().fit(x)
            x, new = scaler.transform(x), scaler.transform(new)
        model = LogisticRegression(C=self.strength, max_iter=2000).fit(x, y)
        guess = model.predict_proba(new)
        return most_likely(y, guess) if self.kind == "class" else guess[:, 1]


def pixel_features(pictures: Sequence[Picture]) -> np.ndarray:
    """(n, 28 * 28 * c) float64 in [0, 1]; c is 3 where one of the pictures has colour.

    Raises:
        UserError: a picture cannot be read; the message names it.
    """
    small = [_shrunk(str(picture.root), str(picture)) for picture in pictures]
    channels = max(pixels.shape[-1] for pixels in small)
    rows = [with_channels(pixels, channels).reshape(-1) for pixels in small]
    return np.stack(rows).astype(np.float64) / 255


def textures(pictures: Sequence[Picture]) -> np.ndarray:
    """(n, d) `texture_features`; grey pictures among coloured ones count as coloured."""
    channels = max(_channels(str(picture.root), str(picture)) for picture in pictures)
    return np.stack([_texture(str(p.root), str(p), channels) for p in pictures])


# Pictures of one name in two places are two: their root is no part of the text.
@functools.lru_cache(maxsize=KEPT)
def _shrunk(root: str, reference: str) -> np.ndarray:
    return resize(quantised(Picture(reference, root).pixels(), 8), (SIDE, SIDE))


@functools.lru_cache(maxsize=KEPT)
def _channels(root: str, reference: str) -> int:
    return Picture(reference, root).pixels().shape[-1]


@functools.lru_cache(maxsize=KEPT)
def _texture(root: str, reference: str, channels: int) -> np.ndarray:
    return texture_features(with_channels(Picture(reference, root).pixels(), channels))


@dataclasses.dataclass(frozen=True)
class SmallNetwork:
    """A convolutional network of three stages, trained from scratch as a model is fine-tuned.

    Pictures of the training part say the size, at most 64 pixels a side, and the channels.

    Attributes:
        kind: as of `PictureLogistic`.
        tuning: passes, batch and learning rate.
    """

    kind: Kind
    tuning: FinetuneSpec = FinetuneSpec(epochs=20, rows=32, learning_rate=2e-3)

    def __call__(self, train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        """As `Adapter`."""
        shapes = {picture.pixels().shape for picture in train.texts}
        side = min(LARGEST, *(min(shape[:2]) for shape in shapes))
        side -= side % ConvolutionalSpec().step
        channels = max(shape[-1] for shape in shapes)
        encoder = Encoder(
            "small network",
            ConvolutionalSpec(image=(side, side), channels=channels),
            ImageData(image=(side, side), channels=channels),
        )
        adapter = tuned_adapter(encoder, self.tuning, self.kind, show=False)
        return adapter(train, valid, test, seed)


# The strengths are chosen by nothing: scikit-learn's default.
IMAGE_BASELINES = {
    "pixels_logistic": PictureLogistic("binary", pixel_features, 1.0, standardised=False),
    "pixels_multinomial": PictureLogistic("class", pixel_features, 1.0, standardised=False),
    "texture_logistic": PictureLogistic("binary", textures, 1.0, standardised=True),
    "texture_multinomial": PictureLogistic("class", textures, 1.0, standardised=True),
    "small_cnn": SmallNetwork("binary"),
    "small_cnn_classes": SmallNetwork("class"),
}
