"""What fine-tuning with frozen parts and LoRA train, and what they leave as it was."""

import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import (
    FAST,
    FAST_COMPILE,
    TINY,
    VOCABULARY,
    batch_for,
    compiled_once,
    parameters,
)

from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.lora_tuning import LoraSpec
from biofm_jax.errors import UserError
from biofm_jax.models.heads import PredictionHead
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import build_program

SPEC = dataclasses.replace(TINY, head=PredictionHead(2))
CUTS = {
    "lora": LoraSpec(rank=2),
    "lora everywhere": LoraSpec(rank=2, targets=(r"kernel$", "embed/tokens")),
    "lora on bfloat16": LoraSpec(rank=2, base="bfloat16"),
    "frozen embeddings": FinetuneSpec(freeze=("^embed",)),
    "head alone": FinetuneSpec(freeze=("^embed", "^blocks", "^final_norm")),
    "all": FinetuneSpec(),
}


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


def cut(name):
    return CUTS[name].cut(SPEC.build(), parameters(SPEC), 0)


def run(tuned, steps=3, accumulate=1, sizes=(1, 1, 1, 1)):
    """Losses of some steps, the last state and the base on the mesh."""
    mesh = MeshSpec(*sizes).build(jax.devices()[: int(np.prod(sizes))])
    program = build_program(
        tuned.model,
        Supervised("squared").build(VOCABULARY),
        lambda axes: FAST.build(20, axes),
        mesh,
        batch_for("supervised"),
        accumulate,
        tuned.base,
    )
    frozen = ()
    if tuned.base is not None:
        frozen = (jax.device_put(tuned.base.params, *program.base_shardings),)
    with jax.set_mesh(mesh):
        state = program.adopt(0, tuned.params)
        lowered = program.step.lower(program.shapes, batch_for("supervised"), *frozen)
        step = lowered.compile(compiler_options=FAST_COMPILE)
        losses = []
        for seed in range(steps):
            batch = to_devices(mesh, batch_for("supervised", seed=seed))
            state, metrics = step(state, batch, *frozen)
            losses.append(float(metrics["loss"]))
    return losses, state, frozen


@pytest.mark.parametrize("name", ["lora", "lora everywhere", "frozen embeddings", "head alone"])
def test_the_first_loss_is_that_of_the_whole_model_and_the_base_stays(name):
    tuned = cut(name)
    before = jax.tree.map(np.copy, tuned.base.params)
    losses, state, frozen = run(tuned)
    whole, _, _ = run(cut("all"), steps=1)
    assert losses[0] == pytest.approx(whole[0], rel=1e-6)
    assert len(set(losses)) == 3
    jax.tree.map(np.testing.assert_array_equal, frozen[0], before)
    changed = [
        np.abs(np.asarray(new) - np.asarray(old)).max()
        for new, old in zip(
            jax.tree.leaves(state.params), jax.tree.leaves(tuned.params), strict=True
        )
    ]
    assert min(changed) > 0


@pytest.mark.parametrize("name", ["lora", "frozen embeddings"])
def test_the_optimizer_holds_moments_of_the_trained_alone(name):
    tuned = cut(name)
    _, state, _ = run(tuned, steps=1)
    trained = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert sum(leaf.nbytes for leaf in moments) == 2 * trained
    shapes = [leaf.shape for leaf in jax.tree.leaves(tuned.params)]
    if name == "lora":
        assert sum(map(np.prod, shapes)) < 0.3 * sum(
            leaf.size for leaf in jax.tree.leaves(tuned.base.params)
        )
        assert {leaf.dtype.name for leaf in jax.tree.leaves(tuned.base.params)} == {"float32"}
    else:
        assert "embed" not in state.params


def test_a_bfloat16_base_is_kept_as_such():
    tuned = cut("lora on bfloat16")
    _, state, frozen = run(tuned, steps=1)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(frozen)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}


@pytest.mark.parametrize("name", ["lora everywhere", "frozen embeddings"])
@pytest.mark.parametrize("sizes", [(2, 1, 1, 1), (1, 4, 1, 1), (2, 2, 2, 1), (1, 1, 1, 2)])
def test_a_mesh_gives_the_same_losses(name, sizes):
    one, _, _ = run(cut(name))
    many, state, frozen = run(cut(name), sizes=sizes)
    np.testing.assert_allclose(many, one, rtol=1e-5)
    if sizes[1] > 1 and "lora" in name:
        qkv = frozen[0]["blocks"]["attention"]["qkv"]["kernel"]
        a = state.params["blocks"]["attention"]["qkv"]["kernel"]["a"]
        assert qkv.addressable_shards[0].data.size == qkv.size // (sizes[1] * sizes[2])
        assert a.addressable_shards[0].data.size == a.size // sizes[1]


@pytest.mark.parametrize("name", ["lora", "frozen embeddings"])
def test_accumulated_microbatches_are_one_big_batch(name):
    one, _, _ = run(cut(name))
    parts, _, _ = run(cut(name), accumulate=4)
    np.testing.assert_allclose(parts, one, rtol=1e-5)


def test_what_freezes_nothing_or_everything_is_refused():
    model, params = SPEC.build(), parameters(SPEC)
    with pytest.raises(UserError, match="'nowhere' matches no parameter; there are "):
        FinetuneSpec(freeze=("nowhere",)).cut(model, params, 0)
    with pytest.raises(UserError, match="freezes every parameter"):
        FinetuneSpec(freeze=(".",)).cut(model, params, 0)


def test_lora_needs_less_memory():
    """Gone are the gradients of the base."""
    spec = dataclasses.replace(SPEC, layers=6, width=128, dropout=0.0)
    batch = jax.tree.map(lambda leaf: leaf[:1], batch_for("supervised"))
    bytes_of, sizes = {}, {}
    for name in ("all", "lora"):
        tuned = CUTS[name].cut(spec.build(), parameters(spec), 0)
        mesh = MeshSpec(data=1).build(jax.devices()[:1])
        objective = Supervised("squared").build(VOCABULARY)
        program = build_program(
            tuned.model, objective, lambda axes: FAST.build(20, axes), mesh, batch, 1, tuned.base
        )
        frozen = () if tuned.base is None else (tuned.base.params,)
        lowered = program.step.lower(program.shapes, batch, *frozen)
        bytes_of[name] = lowered.compile().memory_analysis().temp_size_in_bytes
        sizes[name] = sum(leaf.size for leaf in jax.tree.leaves(program.shapes.params))
    weights = 4 * sizes["all"]
    assert sizes["lora"] < 0.05 * sizes["all"]
    assert bytes_of["all"] - bytes_of["lora"] > 1.2 * weights
