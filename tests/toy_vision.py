"""Batches of small random images and programs that train on them, shared by several rooms."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from toy_batches import FAST, FAST_COMPILE

from biofm_jax.data.batch import Batch
from biofm_jax.data.imaging import ImageData
from biofm_jax.models.spec import ModelSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.api import ObjectiveSpec
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import build_program

ENCODER = VisionSpec(
    layers=2, width=16, heads=2, image=(8, 8), patch=(2, 2), grid_positions="sincos", init_std=0.1
)


def image_batch(rows=8, seed=0, size=ENCODER.image, channels=3, empty=0) -> Batch:
    """Rows of one random image each; the last `empty` rows have none."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((rows, 1), np.int32)
    examples = 100 * seed + np.arange(rows, dtype=np.int32)[:, None]
    images = rng.integers(0, 255, (rows, *size, channels), dtype=np.uint8)
    there = np.arange(rows)[:, None] < rows - empty
    images[rows - empty :] = 0
    return Batch(
        ids, ids + there, ids, np.where(there, examples, -1).astype(np.int32), images=images
    )


@functools.cache
def parameters(spec: ModelSpec):
    """Parameters of a model as numpy arrays."""
    init = jax.jit(spec.build().init, compiler_options=FAST_COMPILE)
    return jax.device_get(init(jax.random.key(0), None))


@functools.cache
def jitted_apply(spec: ModelSpec, **options) -> Callable:
    """(params, batch) -> Outputs."""
    apply = functools.partial(spec.build().apply, **options)
    return jax.jit(apply, compiler_options=FAST_COMPILE)


@functools.cache
def program(objective: ObjectiveSpec, model: ModelSpec, accumulate=1, sizes=(1, 1, 1, 1), rows=8):
    """A compiled step, (state, batch) -> (state, metrics), what it was built for, and a start.

    Args:
        objective: of images.
        model: for images of its encoder's size.
        accumulate: microbatches.
        sizes: of the mesh.
        rows: of the batch.
    """
    mesh = MeshSpec(*sizes).build(jax.devices()[: int(np.prod(sizes))])
    batch = image_batch(rows)
    built = build_program(
        model.build(),
        objective.built_for(model, ImageData(image=ENCODER.image)),
        lambda axes: FAST.build(20, axes),
        mesh,
        batch,
        accumulate,
    )
    step = built.step.lower(built.shapes, batch).compile(compiler_options=FAST_COMPILE)
    return step, built, lambda: built.adopt(0, parameters(model)), mesh


def two_steps(objective: ObjectiveSpec, model: ModelSpec, accumulate=1, sizes=(1, 1, 1, 1)):
    """(2, 2) loss and gradient norm of two steps, and the last state."""
    step, _, start, mesh = program(objective, model, accumulate, sizes)
    state, metrics = start(), []
    for seed in range(2):
        batch = image_batch(seed=seed, empty=1)
        state, values = step(state, to_devices(mesh, batch))
        metrics.append([float(values["loss"]), float(values["gradient_norm"])])
    return np.array(metrics), state
