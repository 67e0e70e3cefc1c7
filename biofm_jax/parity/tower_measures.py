"""Our two towers with imported weights against the references of CLIP, SigLIP and BiomedCLIP."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.padded_text import PaddedTextSpec
from biofm_jax.objectives.contrastive import unit
from biofm_jax.parity.measures import relative_error, worst
from biofm_jax.parity.references import FIRST, PAD, VOCABULARY
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

LENGTHS = (7, 12, 9)  # tokens of the texts; their rows have room for more
ROOM = 14
END = VOCABULARY - 1


def texts() -> np.ndarray:
    """(b, t) int32 ids, `END` the last of each text, `PAD` behind it."""
    rng = np.random.default_rng(2)
    tokens = np.full((len(LENGTHS), ROOM), PAD, np.int32)
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[: length - 1] = rng.integers(FIRST, END, length - 1)
        row[length - 1] = END
    return tokens


def similarities(out: Any) -> jax.Array:
    """(b, b) of each image with each text, over the temperature."""
    one, two = unit(out)[:, 0], unit(out.pair)[:, 0]
    logits = one @ two.T * jnp.exp(out.scale)
    return logits if out.bias is None else logits + out.bias


def measure_towers(build: Callable[[], Any], family: Family) -> tuple[dict[str, float], int]:
    """All figures of one small random model of two towers.

    Args:
        build: makes the reference.
        family: of the model.
    """
    import torch

    made = imported(build(), family)
    reference, plan, params = made.reference, made.plan, made.params
    spec, model, tokens = plan.spec, plan.spec.build(), texts()
    images = random_images(spec.first.image)
    ids = torch.from_numpy(tokens.astype(np.int64))
    inputs = {"input_ids": ids, "pixel_values": pixel_values(images, spec.first)}
    real = np.ones_like(tokens, bool)
    if not isinstance(spec.second, PaddedTextSpec):  # whose texts attend to their padding
        real = tokens != PAD
        inputs["attention_mask"] = torch.from_numpy(real.astype(np.int64))
    theirs = reference(**inputs, output_hidden_states=True)
    weight = np.random.default_rng(1).normal(size=(len(images), len(tokens))).astype(np.float32)
    (theirs.logits_per_image * torch.from_numpy(weight)).sum().backward()

    def loss(params, batch):
        out = model.apply(params, batch, collect=("layers",))
        logits = similarities(out)
        return jnp.sum(logits * weight), (logits, out)

    batch = _batch(images, tokens)
    run = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)
    gradients, (logits, out) = run(params, batch)
    hidden = [
        *_errors(out.layers, theirs.vision_model_output.hidden_states, slice(None)),
        *_errors(out.pair.layers, theirs.text_model_output.hidden_states, real),
    ]
    figures = made.figures | {
        "logits": relative_error(logits, theirs.logits_per_image.detach()),
        "hidden": worst(hidden),
        "batch": relative_error(run(params, _alone(batch))[1][0][0, 0], logits[0, 0]),
        "gradients": worst_gradient(gradients, reference, plan),
        "bf16": _bf16(spec, params, batch, logits),
    }
    return figures, sum(leaf.size for leaf in jax.tree.leaves(params))


def _batch(images: np.ndarray, tokens: np.ndarray) -> Batch:
    first = image_batch(images)
    positions = np.broadcast_to(np.arange(ROOM, dtype=np.int32), tokens.shape)
    there = (tokens != PAD).astype(np.int32)
    return first.replace(pair=Batch(tokens, there, positions, first.examples))


def _errors(ours: Any, theirs: Any, real: Any) -> list[float]:
    """Of each hidden state but the last, which one has behind the final norm and one before it."""
    states = [state.detach().numpy() for state in theirs]
    pairs = zip(np.asarray(ours)[:-1], states[:-1], strict=True)
    return [relative_error(a[real], b[real]) for a, b in pairs]


def _alone(batch: Batch) -> Batch:
    """The first image and text, the other rows empty."""
    there = (np.arange(len(batch.images)) == 0)[:, None]
    pair = batch.pair.replace(
        tokens=np.where(there, batch.pair.tokens, PAD),
        segment_ids=batch.pair.segment_ids * there,
        examples=np.where(there, batch.examples, -1),
    )
    return alone(batch).replace(pair=pair)


def _bf16(spec: DualEncoderSpec, params: Any, batch: Batch, logits: Any) -> float:
    low = spec.replaced(dtype="bfloat16").build()
    run = jax.jit(lambda p, b: similarities(low.apply(p, b)), compiler_options=QUICK)
    return relative_error(run(params, batch), logits)
