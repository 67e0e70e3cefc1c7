"""Contrastive learning over pairs of views, with the whole global batch as negatives."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec


@dataclasses.dataclass(frozen=True)
class Contrastive(ObjectiveSpec):
    """Tell which two views show the same molecule, image or patient.

    Attributes:
        form: "softmax" is symmetric InfoNCE (van den Oord et al. 2018, arXiv:1807.03748, in
            the two-way form of CLIP, Radford et al. 2021); "sigmoid" judges each pair alone
            (SigLIP, Zhai et al. 2023, arXiv:2303.15343, equation 1).
        temperature: divides the cosine similarities.
        bias: added to the similarities of the sigmoid form, whose pairs are mostly negative.
    """

    form: Literal["softmax", "sigmoid"] = "softmax"
    temperature: float = 0.1
    bias: float = -10.0

    head = "ProjectionHead"
    views = 2

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective; the same for every vocabulary.

        Raises:
            UserError: a temperature that is not positive.
        """
        if self.temperature <= 0:
            raise UserError(f"objective.temperature is {self.temperature}; it must be positive")

        def embed(apply, params, batch: Batch, rng):
            if batch.pair is None:
                raise UserError(
                    "Contrastive needs two views of each record; set data.views to 2 or more"
                )
            both = jax.tree.map(_interleaved, _numbered(batch, 0), _numbered(batch.pair, 1))
            vectors = unit(apply(params, both, rngs=rng))
            pairs = vectors.reshape(-1, 2, *vectors.shape[1:])
            return pairs[:, 0], pairs[:, 1]

        def compare(embeddings, batch: Batch, state) -> Loss:
            first, second = (x.reshape(-1, x.shape[-1]) for x in embeddings)
            # Of n slots on c devices each makes n/c rows: 2 * n/c * n * d FLOPs, and as many for
            # each gradient. With as many rows a device they grow with c, as its pairs do.
            similarity = first @ second.T / self.temperature
            if self.form == "softmax":
                return softmax_loss(similarity, batch, state)
            return sigmoid_loss(similarity + self.bias, batch, state)

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            return compare(embed(apply, params, batch, rng), batch, state)

        return Objective(init=lambda params: {}, loss=loss, embed=embed, compare=compare)


def _numbered(view: Batch, number: int) -> Batch:
    """A view as rows of their own: keys of dropout go by the numbers of records."""
    examples = jnp.where(view.examples < 0, view.examples, 2 * view.examples + number)
    return view.replace(examples=examples, pair=None, contents=None)


def _interleaved(first, second):
    """(b, ...) and (b, ...) -> (2b, ...): one pass of the model gathers its parameters once.

    Both views of a record lie side by side, on the same device.
    """
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def unit(outputs):
    """(b, s, d) float32 embeddings of length 1, from the projection head or the pooled state."""
    vectors = outputs.pooled if outputs.logits is None else outputs.logits
    vectors = vectors.astype(jnp.float32)
    # The floor inside the root keeps the gradient of an empty slot finite.
    return vectors * jax.lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + 1e-12)


def _pairs(batch: Batch):
    """Masks of the (n, n) pairs of slots: valid rows (n,), positives, usable negatives."""
    valid = batch.examples.reshape(-1) >= 0
    diagonal = jnp.eye(valid.shape[0], dtype=bool)
    negative = valid[:, None] & valid[None, :]
    # A record that stands twice in the batch is not a negative of itself, nor is another caption
    # of an image one of its own.
    views = (batch, batch.pair)
    for numbers in (batch.examples, *(view.contents for view in views if view is not None)):
        if numbers is not None:
            numbers = numbers.reshape(-1)
            negative &= numbers[:, None] != numbers[None, :]
    return valid.astype(jnp.float32), diagonal, negative


def softmax_loss(similarity, batch: Batch, state) -> Loss:
    """Symmetric InfoNCE of (n, n) similarities over a temperature, of the n slots of a batch.

    Pairs that are equal in a view (`Batch.contents`) are left out of the negatives.
    """
    valid, diagonal, negative = _pairs(batch)
    logits = jnp.where(diagonal | negative, similarity, -jnp.inf)
    positive = jnp.diagonal(similarity)
    nats = [jax.nn.logsumexp(logits, axis=axis) - positive for axis in (1, 0)]
    hits = (jnp.argmax(logits, axis=1) == jnp.arange(len(valid))).astype(jnp.float32)
    return Loss(
        total=jnp.sum(valid * (nats[0] + nats[1])) / 2,
        weight=jnp.sum(valid),
        metrics={"accuracy": jnp.sum(hits * valid)},
        state=state,
    )


def sigmoid_loss(logits, batch: Batch, state) -> Loss:
    """SigLIP's loss of (n, n) logits of the n slots of a batch; negatives as of `softmax_loss`."""
    valid, diagonal, negative = _pairs(batch)
    nats = jnp.where(diagonal, jax.nn.softplus(-logits), jax.nn.softplus(logits))
    used = (diagonal & (valid[:, None] > 0)) | negative
    ranked = jnp.where(diagonal | negative, logits, -jnp.inf)
    hits = (jnp.argmax(ranked, axis=1) == jnp.arange(len(valid))).astype(jnp.float32)
    return Loss(
        total=jnp.sum(jnp.where(used, nats, 0.0)),
        weight=jnp.sum(valid),
        metrics={"accuracy": jnp.sum(hits * valid)},
        state=state,
    )
