"""Tell facts from corrupted ones."""

import dataclasses

import jax
import jax.numpy as jnp

from biofm_jax.data.links import LinkBatch
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec


@dataclasses.dataclass(frozen=True)
class LinkPrediction(ObjectiveSpec):
    """Binary cross-entropy of facts and corruptions, as TxGNN is pretrained and tuned with.

    (Huang et al. 2024, doi 10.1038/s41591-024-03233-x.) The metric `ranked` is the share of
    corruptions that score below their fact.
    """

    head = "DistMult"

    def build(self, vocabulary=None) -> Objective:
        """The objective; a graph has no vocabulary of tokens."""

        def loss(apply, params, state, batch: LinkBatch, rng) -> Loss:
            logits = apply(params, batch, rngs=rng).logits.astype(jnp.float32)
            truth = jnp.zeros(logits.shape[1]).at[0].set(1.0)
            nats = jax.nn.softplus(logits) - logits * truth
            weight = jnp.sum(batch.weights)
            other = batch.weights[:, 1:]
            below = jnp.sum((logits[:, 1:] < logits[:, :1]) * other)
            # The trainer divides by the weight of all pairs.
            ranked = below / jnp.maximum(jnp.sum(other), 1e-9) * weight
            return Loss(jnp.sum(nats * batch.weights), weight, {"ranked": ranked}, state)

        return Objective(init=lambda params: {}, loss=loss)
