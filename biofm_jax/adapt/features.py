"""Features of a frozen model, computed once for every method that reads them."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.labelled import Adapter, Labelled

Features = Callable[[Sequence[str]], np.ndarray]


class Fit(Protocol):
    """What is fitted on frozen features, such as `probe.probe` of one kind of label."""

    def __call__(
        self,
        features_train: Float[np.ndarray, "n d"],
        y_train: Float[np.ndarray, "n k"],
        features_valid: Float[np.ndarray, "v d"],
        y_valid: Float[np.ndarray, "v k"],
        features_test: Float[np.ndarray, "m d"],
    ) -> Float[np.ndarray, "m k"]:
        """Fit on the training rows, choose on the validation rows, predict the test rows."""


class Remembered:
    """A model's features by seed, with a memory: each distinct text is embedded once.

    Given to several adapters, they share the memory.
    """

    def __init__(self, features_for_seed: Callable[[int], Features]):
        """Remember what `features_for_seed` computes.

        Args:
            features_for_seed: seed -> a function from m texts to (m, d) features. A pretrained
                model gives the same function for every seed, a random-initialised control a
                new one.
        """
        self._features_for_seed = features_for_seed
        self._rows: dict[Features, dict[str, np.ndarray]] = {}

    def __call__(self, seed: int, texts: Sequence[str]) -> Float[np.ndarray, "m d"]:
        """(m, d) float64 features of some texts (at least one)."""
        features = self._features_for_seed(seed)
        rows = self._rows.setdefault(features, {})
        new = list(dict.fromkeys(text for text in texts if text not in rows))
        if new:
            rows.update(zip(new, np.asarray(features(new), np.float64), strict=True))
        return np.array([rows[text] for text in texts], np.float64)


def frozen_adapter(features_for_seed: Callable[[int], Features] | Remembered, fit: Fit) -> Adapter:
    """An adapter that fits something on the frozen features of a model.

    Args:
        features_for_seed: as in `Remembered`, or a `Remembered` that other adapters use too.
        fit: what is fitted.
    """
    remembered = (
        features_for_seed
        if isinstance(features_for_seed, Remembered)
        else Remembered(features_for_seed)
    )

    def adapt(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
        x = remembered(seed, (*train.texts, *valid.texts, *test.texts))
        first, second = len(train), len(train) + len(valid)
        return fit(x[:first], train.targets, x[first:second], valid.targets, x[second:])

    return adapt
