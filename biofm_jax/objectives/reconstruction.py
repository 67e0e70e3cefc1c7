"""Draw the hidden patches of an image (masked autoencoder, He et al. 2022, arXiv:2111.06377)."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from biofm_jax.array_types import AnyArray
from biofm_jax.data.batch import Batch
from biofm_jax.errors import UserError
from biofm_jax.models.image_embedding import patches_of, unit_pixels
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec, split_patches
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec, row_keys


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoder(ObjectiveSpec):
    """The mean squared error of the pixels of hidden patches.

    Attributes:
        rate: share of the patches that are hidden; the encoder does not see them.
        normalise: the pixels of each patch have their mean subtracted and are divided by their
            standard deviation, which draws sharper features (section 4.1).
    """

    rate: float = 0.75
    normalise: bool = True

    @property
    def predicted(self) -> float:
        """See `ObjectiveSpec`; of the patches."""
        return self.rate

    def check(self, model, data) -> None:
        """See `ObjectiveSpec`."""
        if not isinstance(model, MaskedAutoencoderSpec):
            raise UserError(
                "MaskedAutoencoder needs an encoder of shown patches and a decoder; set "
                "model=MaskedAutoencoderSpec(encoder=...)"
            )
        self.hidden(model.encoder)

    def hidden(self, encoder: VisionSpec) -> int:
        """How many patches of an image are hidden.

        Raises:
            UserError: none, or all.
        """
        patches = math.prod(encoder.image_grid)
        hidden = patches - int(patches * (1 - self.rate))
        if not 0 < hidden < patches:
            raise UserError(
                f"objective.rate {self.rate} hides {hidden} of {patches} patches; some must be "
                "hidden and some shown"
            )
        return hidden

    def built_for(self, model: MaskedAutoencoderSpec, data) -> Objective:
        """See `ObjectiveSpec`."""
        encoder, hidden = model.encoder, self.hidden(model.encoder)
        patches = math.prod(encoder.image_grid)

        def loss(apply, params, state, batch: Batch, rng) -> Loss:
            drawing, dropout = jax.random.split(rng)
            draw = jax.vmap(lambda key: jax.random.uniform(key, (patches,)))
            split = split_patches(encoder, batch, draw(row_keys(drawing, batch)), hidden)
            drawn = apply(params, split, rngs=dropout).logits
            errors = patch_errors(self, encoder, drawn, split)
            real = (batch.examples[:, :1] >= 0).astype(jnp.float32)
            return Loss(
                total=jnp.sum(errors * real),
                weight=jnp.sum(real) * hidden,
                metrics={},
                state=state,
            )

        return Objective(init=lambda params: {}, loss=loss)


def patch_errors(
    spec: MaskedAutoencoder, encoder: VisionSpec, drawn: AnyArray, split: Batch
) -> jax.Array:
    """The mean squared error of each hidden patch.

    Args:
        spec: says whether the pixels are normalised.
        encoder: has the patch, the mean and the deviation.
        drawn: (b, k, p) pixels of the patches at `split.predict`.
        split: what `split_patches` made.

    Returns:
        (b, k) float32.
    """
    front = encoder.class_token + encoder.registers
    pixels = patches_of(unit_pixels(split.images), encoder.patch)
    pixels = jnp.take_along_axis(pixels, split.predict[:, :, None] - front, axis=1)
    times = math.prod(encoder.patch)
    mean, deviation = (jnp.array(x * times) for x in (encoder.mean, encoder.deviation))
    targets = (pixels - mean) / deviation
    if spec.normalise:
        targets = normalised(targets)
    return jnp.mean((drawn.astype(jnp.float32) - targets) ** 2, axis=-1)


def normalised(patches: AnyArray) -> jax.Array:
    """The pixels (..., p) of each patch with mean 0 and variance 1 (1e-6 is added to it)."""
    mean = patches.mean(-1, keepdims=True)
    spread = jnp.var(patches, axis=-1, keepdims=True, ddof=1)
    return (patches - mean) / jnp.sqrt(spread + 1e-6)
