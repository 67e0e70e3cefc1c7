"""Contrastive learning of two views by a tower each, in the space that they share (CLIP)."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec
from biofm_jax.objectives.contrastive import sigmoid_loss, softmax_loss, unit

SMALLEST = 0.01  # temperature: similarities are scaled by 100 at most (CLIP, section 2.5)


@dataclasses.dataclass(frozen=True)
class Alignment(ObjectiveSpec):
    """Tell which two views are of one molecule, image or patient, all views of one kind by the
    same tower of a `DualEncoderSpec`.

    Attributes:
        form: "softmax" is the symmetric loss of CLIP (Radford et al. 2021, arXiv:2103.00020);
            "sigmoid" judges each pair alone (SigLIP, Zhai et al. 2023, arXiv:2303.15343).
        bias: added to the similarities of the sigmoid form, whose pairs are mostly negative, where
            the model's `SharedSpace` has none of its own.
    """

    form: Literal["softmax", "sigmoid"] = "softmax"
    bias: float = -10.0

    head = "SharedSpace"

    def build(self, vocabulary: Vocabulary) -> Objective:
        """The objective; the same for every vocabulary. It logs the `temperature`."""

        def embed(apply, params, batch: Batch, rng):
            out = apply(params, batch, rngs=rng)
            if out.pair is None:
                raise UserError("Alignment trains two towers; set model=DualEncoderSpec(...)")
            first, second = unit(out), unit(out.pair)
            # As many as there are rows: parts of a batch add up their shares of the gradient.
            bias = jnp.float32(self.bias) if out.bias is None else out.bias
            return first, second, *(jnp.broadcast_to(x, first.shape[:1]) for x in (out.scale, bias))

        def compare(embeddings, batch: Batch, state) -> Loss:
            first, second = (x.reshape(-1, x.shape[-1]) for x in embeddings[:2])
            scale = jnp.exp(_capped(jnp.mean(embeddings[2])))
            similarity = first @ second.T * scale
            if self.form == "softmax":
                loss = softmax_loss(similarity, batch, state)
            else:
                loss = sigmoid_loss(similarity + jnp.mean(embeddings[3]), batch, state)
            return dataclasses.replace(
                loss, metrics=loss.metrics | {"temperature": loss.weight / scale}
            )

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            return compare(embed(apply, params, batch, rng), batch, state)

        return Objective(init=lambda params: {}, loss=loss, embed=embed, compare=compare)


@jax.custom_vjp
def _capped(scale: jax.Array) -> jax.Array:
    """The logarithm of the inverse temperature, at most that of `SMALLEST`.

    CLIP clips the parameter after each step. Here the gradient ends where it would push beyond,
    and the way back stays open.
    """
    return jnp.minimum(scale, -math.log(SMALLEST))


def _capped_forward(scale):
    return _capped(scale), scale


def _capped_backward(scale, gradient):
    beyond = (scale >= -math.log(SMALLEST)) & (gradient < 0)
    return (jnp.where(beyond, 0.0, gradient),)


_capped.defvjp(_capped_forward, _capped_backward)
