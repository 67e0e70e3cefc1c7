"""Our vision transformers with imported weights against the reference implementation's."""

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.models.image_embedding import MASK, image_tokens
from biofm_jax.parity.ledger import round_trip_failures, strictness_failures
from biofm_jax.parity.measures import gradient_error, relative_error, worst
from biofm_jax.zoo.config import read_config
from biofm_jax.zoo.exporting import published_tensors
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.importing import Plan, plan_import, read_params
from biofm_jax.zoo.weights import Weights, open_weights

ROWS = 3
# Compiling is most of what these comparisons do.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


@dataclasses.dataclass(frozen=True)
class Imported:
    """A small reference model that was saved and imported.

    Attributes:
        reference: a torch module.
        plan: of the import.
        params: ours.
        figures: of the round trip and of what a spoilt checkpoint is refused for.
    """

    reference: Any
    plan: Plan
    params: Any
    figures: dict[str, float]


def imported(reference: Any, family: Family) -> Imported:
    """Save a reference in its own layout, and import that."""
    with saved(reference, family) as (weights, config):
        plan = plan_import(weights, family, family.spec_of(config))
        params = read_params(weights, plan)
        figures = {
            "round trip": round_trip_failures(weights, plan, params),
            "strict": strictness_failures(weights, plan),
        }
    return Imported(reference, plan, params, figures)


@contextlib.contextmanager
def saved(reference: Any, family: Family):
    """The weights and the configuration that a reference writes."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        reference.save_pretrained(Path(name))
        yield open_weights(Path(name)), read_config(Path(name) / family.config)


def gradients_by_name(reference: Any, plan: Plan) -> dict[str, np.ndarray]:
    """The gradients that lie in a reference's parameters, by name in the family's table.

    The reference's modules have other names than its files: the gradients go the way that the
    parameters go. The reference is of no use afterwards.
    """
    import torch

    with torch.no_grad():
        for parameter in reference.parameters():
            gradient = parameter.grad
            parameter.copy_(torch.zeros_like(parameter) if gradient is None else gradient)
    with saved(reference, plan.family) as (weights, _):
        return {place.name: _read(weights, plan, place.name) for place in plan.places}


def _read(weights: Weights, plan: Plan, name: str) -> np.ndarray:
    return weights.read(plan.names[name])


def worst_gradient(ours: Any, reference: Any, plan: Plan) -> float:
    """The largest relative error of a gradient; `reference` has gone backwards."""
    theirs = gradients_by_name(reference, plan)
    found = published_tensors(ours, plan.family, plan.spec)
    return worst(gradient_error(gradient, theirs[name]) for name, gradient in found)


def image_batch(images: np.ndarray) -> Batch:
    """One image a row, as the pipeline gives them."""
    ids = np.zeros((len(images), 1), np.int32)
    examples = np.arange(len(images), dtype=np.int32)[:, None]
    return Batch(ids, ids + 1, ids, examples, images=images)


def random_images(size: tuple[int, ...], channels: int = 3, seed: int = 0) -> np.ndarray:
    """(b, h, w, c) uint8."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (ROWS, *size, channels)).astype(np.uint8)


def pixel_values(images: np.ndarray, spec: Any) -> Any:
    """The images as a published processor hands them to a reference: (b, c, h, w)."""
    import torch

    normal = (images / np.float32(255) - np.float32(spec.mean)) / np.float32(spec.deviation)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(normal, -1, 1)))


@dataclasses.dataclass(frozen=True)
class View:
    """Which patches both models see.

    Attributes:
        inner: our batch of tokens.
        options: of the reference's call.
    """

    inner: Batch
    options: dict[str, Any]


def all_patches(spec: Any, batch: Batch) -> View:
    """All of them."""
    return View(image_tokens(spec, batch), {})


def masked_patches(spec: Any, batch: Batch) -> View:
    """All, of which some are shown as the mask vector (DINOv2's iBOT)."""
    import torch

    inner, front = image_tokens(spec, batch), spec.class_token + spec.registers
    hidden = np.random.default_rng(3).random((ROWS, inner.tokens.shape[1] - front)) < 0.3
    tokens = np.array(inner.tokens)
    tokens[:, front:][hidden] = MASK
    options = {"bool_masked_pos": torch.from_numpy(hidden)}
    return View(inner.replace(tokens=jnp.asarray(tokens)), options)


def kept_patches(spec: Any, batch: Batch, masked: float) -> View:
    """The share that a masked autoencoder's noise leaves, in its order."""
    import torch

    inner = image_tokens(spec, batch)
    count = inner.tokens.shape[1] - 1
    noise = np.random.default_rng(4).random((ROWS, count)).astype(np.float32)
    order = np.argsort(noise, axis=1)[:, : int(count * (1 - masked))]
    at = np.concatenate([np.zeros((ROWS, 1), np.int64), order + 1], axis=1)
    names = ("tokens", "segment_ids", "positions")
    cut = {name: np.take_along_axis(np.asarray(getattr(inner, name)), at, 1) for name in names}
    return View(inner.replace(**cut), {"noise": torch.from_numpy(noise)})


def measure_vision(
    build: Callable[[], Any],
    family: Family,
    view: Callable[[Any, Batch], View] = all_patches,
    other_size: tuple[int, ...] | None = None,
    **options,
) -> tuple[dict[str, float], int]:
    """All figures of one small random vision transformer.

    Args:
        build: makes the reference.
        family: of the model.
        view: which patches are seen.
        other_size: of images that need resampled positions; None: not compared.
        options: of the reference's call at `other_size`.
    """
    import torch

    made = imported(build(), family)
    reference, plan, params = made.reference, made.plan, made.params
    spec, model = plan.spec, plan.spec.build()
    images = random_images(spec.image, spec.channels)
    seen = view(spec, image_batch(images))

    def output(out):
        return out.hidden if out.logits is None else out.logits[:, 0]

    theirs = reference(pixel_values(images, spec), output_hidden_states=True, **seen.options)
    wanted = _output(theirs)
    weight = np.random.default_rng(1).normal(size=wanted.shape).astype(np.float32)
    (wanted * torch.from_numpy(weight)).sum().backward()

    def loss(params, batch):
        out = model.apply(params, batch, collect=("layers",))
        return jnp.sum(output(out) * weight), out

    run = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)
    gradients, out = run(params, seen.inner)
    states = [state.detach().numpy() for state in theirs.hidden_states]
    last = out.layers[-1] if len(states) > 1 else out.layers[0]
    hidden = [relative_error(a, b) for a, b in zip(out.layers[:-1], states[:-1], strict=True)]
    hidden.append(min(relative_error(x, states[-1]) for x in (last, out.hidden)))
    figures = made.figures | {
        "logits": relative_error(output(out), wanted.detach()),
        "hidden": worst(hidden),
        "batch": relative_error(output(run(params, alone(seen.inner))[1])[0], output(out)[0]),
    }
    if other_size is not None:
        images = random_images(other_size, spec.channels, seed=5)
        with torch.no_grad():
            wanted = _output(reference(pixel_values(images, spec), **options))
        apply = jax.jit(model.apply, compiler_options=QUICK)
        got = output(apply(params, image_batch(images)))
        figures["logits"] = worst((figures["logits"], relative_error(got, wanted)))
    figures["gradients"] = worst_gradient(gradients, reference, plan)
    low = spec.replaced(dtype="bfloat16").build()
    apply = jax.jit(low.apply, compiler_options=QUICK)
    rounded = output(apply(params, seen.inner)).astype(jnp.float32)
    figures["bf16"] = relative_error(rounded, output(out))
    return figures, sum(leaf.size for leaf in jax.tree.leaves(params))


def _output(out: Any) -> Any:
    """What a reference says: classes, the pooler's vector, or all hidden states."""
    if hasattr(out, "logits"):
        return out.logits
    # That of DINOv2 is the first of its hidden states.
    own_pooler = getattr(out, "pooler_output", None) is not None
    if own_pooler and not bool((out.pooler_output == out.last_hidden_state[:, 0]).all()):
        return out.pooler_output
    return out.last_hidden_state


def alone(batch: Batch) -> Batch:
    """The batch with its first row alone, the others empty."""
    there = (np.arange(len(batch.tokens)) == 0)[:, None]
    return batch.replace(
        images=batch.images * there[:, None, None].astype(np.uint8),
        segment_ids=batch.segment_ids * there,
        examples=np.where(there, batch.examples, -1),
    )
