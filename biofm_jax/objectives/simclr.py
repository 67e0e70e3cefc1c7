"""Contrastive learning of images: two random views of one image are a pair (SimCLR, Chen et al.
2020, arXiv:2002.05709)."""

import dataclasses

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec
from biofm_jax.objectives.assignments import LEAST
from biofm_jax.objectives.contrastive import unit
from biofm_jax.objectives.crops import apart, crops
from biofm_jax.objectives.image_views import ImageViews


@dataclasses.dataclass(frozen=True)
class SimCLR(ObjectiveSpec):
    """Tell which two views show the same image; both views of all others are the negatives.

    The global batch counts, over all devices and microbatches.

    Attributes:
        temperature: divides the cosine similarities.
        augment: how views are drawn.
    """

    temperature: float = 0.1
    augment: ImageViews = ImageViews()

    head = "ProjectionHead"
    passes = 2

    def built_for(self, model, data) -> Objective:
        """See `ObjectiveSpec`.

        Raises:
            UserError: a temperature that is not positive.
        """
        if self.temperature <= 0:
            raise UserError(f"objective.temperature is {self.temperature}; it must be positive")

        def embed(apply, params, batch: Batch, rng):
            drawing, dropout = jax.random.split(rng)
            both = crops((self.augment,) * 2, batch, drawing)
            vectors = apart(unit(apply(params, both, rngs=dropout)), 2)
            return vectors[:, 0, 0], vectors[:, 1, 0]

        def compare(embeddings, batch: Batch, state) -> Loss:
            return nt_xent(*embeddings, batch.examples[:, 0], self.temperature, state)

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            return compare(embed(apply, params, batch, rng), batch, state)

        return Objective(init=lambda params: {}, loss=loss, embed=embed, compare=compare)


def nt_xent(first, second, examples, temperature: float, state) -> Loss:
    """Cross-entropy of the partner among all other views (equation 1), the mean of both views.

    Args:
        first: (n, d) float32 of length 1.
        second: (n, d), the other view of the same images.
        examples: (n,) record numbers, -1 for none. A record that stands twice is no negative.
        temperature: divides the similarities.
        state: passed on.
    """
    valid = (examples >= 0).astype(jnp.float32)
    other = (examples[:, None] != examples[None, :]) & (valid[:, None] * valid[None, :] > 0)
    diagonal = jnp.eye(examples.shape[0], dtype=bool)
    across = first @ second.T / temperature
    positive = jnp.diagonal(across)
    nats, hits = 0.0, 0.0
    for own, logits in ((first, across), (second, across.T)):
        within = jnp.where(other, own @ own.T / temperature, LEAST)
        logits = jnp.where(diagonal | other, logits, LEAST)
        both = jnp.logaddexp(*(jax.nn.logsumexp(x, axis=1) for x in (logits, within)))
        nats += both - positive
        hits += positive >= jnp.maximum(logits.max(1), within.max(1))
    return Loss(
        total=jnp.sum(nats * valid) / 2,
        weight=jnp.sum(valid),
        metrics={"accuracy": jnp.sum(hits * valid) / 2},
        state=state,
    )
