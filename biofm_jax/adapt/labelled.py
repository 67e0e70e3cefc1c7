"""Labelled inputs, and what it means to adapt a model to them."""

import dataclasses
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from biofm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Inputs with labels: the training, validation or test part of a task.

    Attributes:
        ids: n names, unique within a data set.
        texts: n sequences or SMILES strings.
        targets: (n, k) float64 labels in the task's unit, one column per label; nan = missing.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    targets: Float[np.ndarray, "n k"]

    def __post_init__(self):
        if not len(self.ids) == len(self.texts) == len(self.targets):
            raise UserError(
                f"{len(self.ids)} ids, {len(self.texts)} texts and {len(self.targets)} rows of "
                "targets: every item needs one of each"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, index: Int[np.ndarray, " m"]) -> "Labelled":
        """The items at some indices, in that order."""
        return Labelled(
            tuple(self.ids[i] for i in index),
            tuple(self.texts[i] for i in index),
            self.targets[index],
        )

    def without_targets(self) -> "Labelled":
        """The same inputs with every label missing."""
        return dataclasses.replace(self, targets=np.full_like(self.targets, np.nan))


class Adapter(Protocol):
    """Fits something to the labels of `train` and predicts those of `test`.

    `valid` is for choosing (strengths, the step to stop at). The labels of `test` are all
    missing: an adapter cannot look at them. Returns (n_test, k) float: the predicted value, for a
    binary label the probability of 1 or, without one, a score that grows with it, and for classes
    the predicted class number.
    """

    def __call__(
        self, train: Labelled, valid: Labelled, test: Labelled, seed: int
    ) -> Float[np.ndarray, "n k"]:
        """Fit on `train`, choose on `valid`, predict `test`."""
