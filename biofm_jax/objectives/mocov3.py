"""Contrastive learning of images with a momentum encoder (MoCo v3, Chen et al. 2021,
arXiv:2104.02057)."""

import dataclasses

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.predictor import PredictorSpec
from biofm_jax.models.prototypes import unit
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec
from biofm_jax.objectives.assignments import LEAST
from biofm_jax.objectives.crops import apart, crops
from biofm_jax.objectives.image_views import ImageViews
from biofm_jax.objectives.teacher import check_momentum, followed, momentum_at, start_teacher

COLOURS = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)


@dataclasses.dataclass(frozen=True)
class MoCoV3(ObjectiveSpec):
    """Predict from one view which vector the momentum encoder gives the other one.

    The vectors of the other images of the global batch are the negatives. The teacher in the
    state needs its parameters in each part of a batch, so that gradients are not accumulated.

    Attributes:
        temperature: divides the cosine similarities.
        momentum: share of the momentum encoder that stays in a step, at the start.
        momentum_steps: over which it rises to 1 along a cosine; 0: it stays.
        first: how the first view is drawn.
        second: how the second is.
    """

    temperature: float = 0.2
    momentum: float = 0.99
    momentum_steps: int = 0
    first: ImageViews = ImageViews(blur=1.0, **COLOURS)
    second: ImageViews = ImageViews(blur=0.1, solarise=0.2, **COLOURS)

    passes = 2

    def check(self, model, data) -> None:
        """See `ObjectiveSpec`."""
        if not isinstance(model, PredictorSpec):
            raise UserError(
                "MoCoV3 predicts one view's projection from the other's; set "
                "model=PredictorSpec(encoder=...)"
            )
        if self.temperature <= 0:
            raise UserError(f"objective.temperature is {self.temperature}; it must be positive")
        check_momentum(self.momentum, self.momentum_steps)

    def batch_flops(self, model, batch, attended) -> float:
        """See `ObjectiveSpec`: the teacher reads both views too, and has no backward pass."""
        return (1 + 1 / 3) * super().batch_flops(model, batch, attended)

    def built_for(self, model, data) -> Objective:
        """See `ObjectiveSpec`."""

        def init(params):
            return start_teacher({"encoder": params["encoder"]})

        def embed(apply, params, teacher, batch: Batch, rng):
            drawing, *dropout = jax.random.split(rng, 3)
            both = crops((self.first, self.second), batch, drawing)
            queries = unit(apply(params, both, rngs=dropout[0]).pooled_logits)
            keys = unit(apply(params | teacher, both, rngs=dropout[1]).logits)
            queries, keys = (apart(x[:, 0], 2) for x in (queries, jax.lax.stop_gradient(keys)))
            return queries[:, 0], queries[:, 1], keys[:, 0], keys[:, 1]

        def compare(embeddings, batch: Batch, state) -> Loss:
            first, second, first_keys, second_keys = embeddings
            examples = batch.examples[:, 0]
            valid = (examples >= 0).astype(jnp.float32)
            nats, hits = zip(
                *(
                    predicted(queries, keys, examples, self.temperature)
                    for queries, keys in ((first, second_keys), (second, first_keys))
                )
            )
            return Loss(
                total=2 * self.temperature * jnp.sum(valid * sum(nats)),
                weight=jnp.sum(valid),
                metrics={"accuracy": jnp.sum(valid * sum(hits)) / 2},
                state=state,
            )

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            momentum = momentum_at(state["step"], self.momentum, self.momentum_steps)
            teacher = followed(state["teacher"], {"encoder": params["encoder"]}, momentum)
            after = {"step": state["step"] + 1, "teacher": teacher}
            return compare(embed(apply, params, teacher, batch, rng), batch, after)

        return Objective(init=init, loss=loss, compare=compare)


def predicted(queries, keys, examples, temperature: float) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of each query's own key among all, and whether it is the nearest.

    Args:
        queries: (n, d) float32 of length 1.
        keys: (n, d), of the other view.
        examples: (n,) record numbers, -1 for none. A record that stands twice is no negative.
        temperature: divides the similarities.

    Returns:
        (n,) nats and (n,) bool.
    """
    similarity = queries @ keys.T / temperature
    other = (examples[:, None] != examples[None, :]) & (examples[None, :] >= 0)
    positive = jnp.diagonal(similarity)
    logits = jnp.where(jnp.eye(len(examples), dtype=bool) | other, similarity, LEAST)
    return jax.nn.logsumexp(logits, axis=1) - positive, positive >= logits.max(1)
