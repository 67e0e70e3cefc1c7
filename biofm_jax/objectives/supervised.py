"""Supervised learning of labels of whole examples."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, cross_entropy


@dataclasses.dataclass(frozen=True)
class Supervised(ObjectiveSpec):
    """Predict the labels of each packed example from its pooled state.

    Attributes:
        loss: "squared" for numbers (standardised by the caller), "binary" for independent
            0/1 labels (several columns are several tasks; a missing label has weight 0),
            "softmax" for one class out of many, given as a class number.
    """

    loss: Literal["squared", "binary", "softmax"] = "squared"

    head = "PredictionHead"

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective; the same for every vocabulary."""

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            outputs = apply(params, batch, rngs=rng).logits.astype(jnp.float32)
            errors = self.errors(outputs, batch.targets)
            return Loss(
                total=jnp.sum(errors * batch.weights),
                weight=jnp.sum(batch.weights),
                metrics={},
                state=state,
            )

        return Objective(init=lambda params: {}, loss=loss)

    def errors(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """The loss of each label.

        Args:
            outputs: (b, s, k) numbers or logits.
            targets: (b, s, k) float32; for "softmax" (b, s, 1), the class number.

        Returns:
            The shape of `targets`, float32.
        """
        if self.loss == "squared":
            return (outputs - targets) ** 2
        if self.loss == "binary":
            return jax.nn.softplus(outputs) - outputs * targets
        return cross_entropy(outputs, targets[..., 0].astype(jnp.int32))[..., None]
