"""What a masked autoencoder draws where it sees nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.models.image_embedding import images_of, patches_of, unit_pixels
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec, split_patches
from biofm_jax.objectives.reconstruction import MaskedAutoencoder

GREY = 0.5  # of a hidden patch


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Images, what the encoder saw of them, and what the decoder drew.

    Attributes:
        images: (n, h, w, c) float32 in [0, 1].
        shown: the same with grey in the place of hidden patches.
        drawn: the same with the decoder's pixels there.
        error: mean squared error of the hidden pixels, in units of the whole image's variance:
            1 is as good as the mean colour of each image.
        blank: the same of each hidden patch's own mean colour, which a model of normalised pixels
            is told here.
    """

    images: np.ndarray
    shown: np.ndarray
    drawn: np.ndarray
    error: float
    blank: float


def reconstruct(
    spec: MaskedAutoencoderSpec,
    params,
    objective: MaskedAutoencoder,
    images: np.ndarray,
    seed: int = 0,
) -> Drawn:
    """Hide patches as pretraining does, and draw them.

    Where the objective normalises the pixels of each patch, the decoder says nothing of their mean
    and deviation: those of the image are put back, as in He et al. 2022, figure 2.

    Args:
        spec: the model.
        params: of encoder and decoder.
        objective: says how many patches are hidden.
        images: (n, h, w, c) uint8 or uint16.
        seed: of which.
    """
    encoder, model = spec.encoder, spec.build()
    count = len(images)
    ids = np.zeros((count, 1), np.int32)
    batch = Batch(ids, ids + 1, ids, np.arange(count, dtype=np.int32)[:, None], images=images)
    patches = int(np.prod(encoder.image_grid))
    noise = np.random.default_rng(seed).random((count, patches)).astype(np.float32)
    front = encoder.class_token + encoder.registers
    times = int(np.prod(encoder.patch))
    mean, deviation = (jnp.array(x * times) for x in (encoder.mean, encoder.deviation))

    @jax.jit
    def draw(params, batch):
        split = split_patches(encoder, batch, noise, objective.hidden(encoder))
        found = model.apply(params, split).logits
        unit = unit_pixels(batch.images)
        whole = patches_of(unit, encoder.patch)
        at = split.predict - front
        if objective.normalise:
            true = (jnp.take_along_axis(whole, at[:, :, None], axis=1) - mean) / deviation
            spread = jnp.sqrt(jnp.var(true, axis=-1, keepdims=True, ddof=1) + 1e-6)
            found = found * spread + true.mean(-1, keepdims=True)
        found = jnp.clip(found * deviation + mean, 0, 1)

        def put(patches, at, values):
            return patches.at[at].set(values)

        grid = encoder.image_grid
        shown = jax.vmap(put)(whole, at, jnp.full_like(found, GREY))
        drawn = jax.vmap(put)(whole, at, found)
        hidden = jnp.take_along_axis(whole, at[:, :, None], axis=1)
        each = hidden.reshape(*hidden.shape[:2], -1, encoder.channels)
        plain = jnp.broadcast_to(each.mean(2, keepdims=True), each.shape).reshape(hidden.shape)
        variance = jnp.var(unit, axis=(1, 2)).mean(-1)
        errors = [
            (((x - hidden) ** 2).mean((1, 2)) / jnp.maximum(variance, 1e-12)).mean()
            for x in (found, plain)
        ]
        pictures = [images_of(x, grid, encoder.patch) for x in (shown, drawn)]
        return unit, *pictures, *errors

    unit, shown, drawn, error, blank = jax.device_get(draw(params, batch))
    return Drawn(unit, shown, drawn, float(error), float(blank))
