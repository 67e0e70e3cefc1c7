"""Next-token prediction within each packed example (Radford et al. 2019)."""

import dataclasses

import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, token_loss


@dataclasses.dataclass(frozen=True)
class NextToken(ObjectiveSpec):
    """Predict each token of an example from those before it."""

    head = "LanguageHead"
    causal = True

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective; the same for every vocabulary."""

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            logits = apply(params, batch, rngs=rng).logits
            targets, weights = shifted(batch)
            return token_loss(logits, targets, weights, state)

        return Objective(init=lambda params: {}, loss=loss)


def shifted(batch: Batch):
    """Targets and weights of next-token prediction.

    Returns:
        targets (b, t) int32, the token to the right, and weights (b, t) float32, 0 at
        padding and at the last token of each example: the next example is not its future.
    """
    targets = jnp.roll(batch.tokens, -1, axis=1)
    same = batch.segment_ids == jnp.roll(batch.segment_ids, -1, axis=1)
    weights = (same & (batch.segment_ids > 0)).at[:, -1].set(False)
    return targets, weights.astype(jnp.float32)
