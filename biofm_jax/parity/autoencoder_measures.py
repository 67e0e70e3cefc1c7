"""Our masked autoencoder with imported weights against the reference implementation's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.models.masked_autoencoder import split_patches
from biofm_jax.parity.measures import relative_error, worst
from biofm_jax.parity.vision_measures import (
    QUICK,
    alone,
    image_batch,
    imported,
    pixel_values,
    random_images,
    worst_gradient,
)
from biofm_jax.zoo.family import Family


def measure_autoencoder(
    build: Callable[[], Any], family: Family, masked: float
) -> tuple[dict[str, float], int]:
    """All figures of one small random masked autoencoder, whose noise is given.

    Args:
        build: makes the reference.
        family: of the model.
        masked: share of the patches that are hidden, as in the reference's configuration.
    """
    import torch

    made = imported(build(), family)
    reference, plan, params = made.reference, made.plan, made.params
    encoder, model = plan.spec.encoder, plan.spec.build()
    images = random_images(encoder.image)
    patches = int(np.prod(encoder.image_grid))
    noise = np.random.default_rng(4).random((len(images), patches)).astype(np.float32)
    theirs = reference(
        pixel_values(images, encoder), noise=torch.from_numpy(noise), output_hidden_states=True
    )
    weight = np.random.default_rng(1).normal(size=theirs.logits.shape).astype(np.float32)
    (theirs.logits * torch.from_numpy(weight)).sum().backward()

    def loss(params, batch):
        out = model.apply(params, batch, collect=("layers",))
        drawn = out.logits[:, encoder.class_token :]
        return jnp.sum(drawn * weight), (drawn, out.source.layers)

    run = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)
    hidden = patches - int(patches * (1 - masked))
    batch = split_patches(encoder, image_batch(images), noise, hidden).replace(predict=None)
    gradients, (drawn, layers) = run(params, batch)
    states = [state.detach().numpy() for state in theirs.hidden_states]
    by_itself = alone(batch).replace(source=alone(batch.source))
    figures = made.figures | {
        "logits": relative_error(drawn, theirs.logits.detach()),
        "hidden": worst(relative_error(a, b) for a, b in zip(layers[:-1], states[:-1])),
        "batch": relative_error(run(params, by_itself)[1][0][0], drawn[0]),
        "gradients": worst_gradient(gradients, reference, plan),
    }
    low = plan.spec.replaced(dtype="bfloat16").build()
    rounded = jax.jit(lambda p, b: low.apply(p, b).logits, compiler_options=QUICK)(params, batch)
    figures["bf16"] = relative_error(rounded[:, encoder.class_token :], drawn)
    return figures, sum(leaf.size for leaf in jax.tree.leaves(params))
