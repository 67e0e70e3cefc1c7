"""Contrastive learning of images and texts, and writing the text from the image (CoCa)."""

import dataclasses

import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.models.captioner import CaptionerSpec
from biofm_jax.objectives.alignment import Alignment
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, cross_entropy
from biofm_jax.objectives.next_token import shifted


@dataclasses.dataclass(frozen=True)
class ContrastiveCaptioning(ObjectiveSpec):
    """CLIP's loss of both towers and the next-token loss of the captions (Yu et al. 2022,
    arXiv:2205.01917, equations 3 and 4).

    The one is a mean over pairs, the other over tokens of the whole batch.

    Attributes:
        caption: weight of the captions' loss beside the contrastive one (2 in CoCa).
    """

    caption: float = 2.0

    head = "SharedSpace"

    def check(self, model, data) -> None:
        """See `ObjectiveSpec`; the model must write."""
        if not isinstance(model, CaptionerSpec):
            raise UserError(
                f"ContrastiveCaptioning needs a decoder that writes captions, and "
                f"{type(model).__name__} has none; set model=CaptionerSpec(...), or "
                "objective=Alignment()"
            )
        super().check(model, data)

    def build(self, vocabulary: Vocabulary | None) -> Objective:
        """The objective; the same for every vocabulary.

        It logs the `accuracy` and `temperature` of the pairs, and `caption_loss` (nats a token)
        and `caption_accuracy`.

        Raises:
            UserError: a weight that is not positive.
        """
        if self.caption <= 0:
            raise UserError(f"objective.caption is {self.caption}; it must be above 0")
        pairs = Alignment().build(vocabulary)

        def embed(apply, params, batch: Batch, rng):
            out = apply(params, batch, rngs=rng)
            vectors = pairs.embed(lambda *_, **options: out, params, batch, rng)
            targets, weights = shifted(batch.pair)
            nats = cross_entropy(out.caption, targets) * weights
            hits = (jnp.argmax(out.caption, axis=-1) == targets) * weights
            return *vectors, nats.sum(1), hits.sum(1), weights.sum(1)

        def compare(embeddings, batch: Batch, state) -> Loss:
            *vectors, nats, hits, count = embeddings
            found = pairs.compare(vectors, batch, state)
            tokens = jnp.maximum(count.sum(), 1.0)
            # Sums over pairs, as the trainer divides all by the number of pairs.
            nats, hits = (found.weight * x.sum() / tokens for x in (nats, hits))
            return dataclasses.replace(
                found,
                total=found.total + self.caption * nats,
                metrics=found.metrics | {"caption_loss": nats, "caption_accuracy": hits},
            )

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            return compare(embed(apply, params, batch, rng), batch, state)

        return Objective(init=lambda params: {}, loss=loss, embed=embed, compare=compare)
