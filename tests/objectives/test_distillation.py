"""Self-distillation: targets and losses against plain forms, the teacher, what is hidden."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_vision import ENCODER, image_batch, parameters, program, two_steps

from biofm_jax.data.imaging import ImageData
from biofm_jax.errors import UserError
from biofm_jax.models.image_embedding import MASK
from biofm_jax.models.prototypes import Prototypes, PrototypeSpec
from biofm_jax.objectives import assignments
from biofm_jax.objectives.assignments import centred, moved_centre
from biofm_jax.objectives.distillation import SelfDistillation, distilled, hidden_patches
from biofm_jax.objectives.image_views import ImageViews
from biofm_jax.train.checkpoint import Checkpoints
from biofm_jax.train.placement import to_devices

PLAIN = ImageViews(jitter=0.0, grey=0.0, blur=0.0)
OBJECTIVE = SelfDistillation(
    momentum=0.9,
    local_crops=2,
    first=PLAIN,
    second=PLAIN,
    local=dataclasses.replace(PLAIN, size=(4, 4)),
)
CENTRED = dataclasses.replace(OBJECTIVE, centring="centre", patch_weight=0.0, local_crops=0)
MODEL = PrototypeSpec(
    dataclasses.replace(ENCODER, layers=1, mask_vector=True), Prototypes(16, 8, 3, 4)
)
rng = np.random.default_rng(0)
jit = functools.partial(jax.jit, compiler_options=FAST_COMPILE)
sinkhorn = jit(assignments.sinkhorn, static_argnums=2)
spread = jit(assignments.spread)


def test_assignments_by_sinkhorn_use_every_prototype_alike():
    logits = rng.normal(size=(12, 4)).astype(np.float32) * 8
    weights = np.ones(12, np.float32)
    weights[[2, 7]] = 0
    found = np.asarray(sinkhorn(logits, weights, 50))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-4)
    np.testing.assert_allclose(found[weights > 0].sum(0), 10 / 4, rtol=1e-3)
    # A vector that is none has no say, whatever it is.
    logits[2] = 1e3
    changed = np.asarray(sinkhorn(logits, weights, 50))
    np.testing.assert_allclose(changed[weights > 0], found[weights > 0], rtol=1e-5)


def test_three_rounds_of_sinkhorn_are_those_of_the_plain_form():
    logits = rng.normal(size=(6, 5))
    plain = np.exp(logits)
    plain /= plain.sum()
    for _ in range(3):
        plain /= plain.sum(0) * 5
        plain /= plain.sum(1, keepdims=True) * 6
    found = sinkhorn(logits.astype(np.float32), np.ones(6, np.float32), 3)
    np.testing.assert_allclose(found, plain * 6, rtol=1e-5)


def test_the_centre_is_a_moving_average_and_evens_out():
    logits = rng.normal(size=(6, 5)).astype(np.float32)
    weights = np.array([1, 1, 1, 1, 0, 0], np.float32)
    centre = np.asarray(moved_centre(np.zeros(5), logits, weights, 0.9))
    np.testing.assert_allclose(centre, 0.1 * logits[:4].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(moved_centre(centre, logits, 0 * weights, 0.9), centre)
    np.testing.assert_allclose(centred(logits[:1], logits[0], 0.04), 0.2, rtol=1e-5)


def test_spread_looks_at_the_nearest_other_vector():
    vectors = rng.normal(size=(6, 3)).astype(np.float32)
    weights = np.array([1, 1, 0, 1, 1, 1], np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = np.asarray(spread(vectors, weights))
    for i in np.flatnonzero(weights):
        others = [j for j in np.flatnonzero(weights) if j != i]
        nearest = min(np.linalg.norm(unit[i] - unit[j]) for j in others)
        np.testing.assert_allclose(found[i], -np.log(nearest), rtol=1e-4)
    assert (
        found[2] == 0 and (np.asarray(spread(vectors, np.eye(6, dtype=np.float32)[0])) == 0).all()
    )
    alike = jit(jax.grad(lambda x: assignments.spread(x, weights).sum()))
    assert np.isfinite(alike(np.ones((6, 3), np.float32))).all()


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def test_the_loss_is_that_of_a_plain_form():
    batch = image_batch(3, empty=1)
    shapes = {"images": (3, 4, 5), "taught_images": (3, 2, 5), "vectors": (3, 2, 6)}
    shapes |= {"patches": (6, 2, 5), "taught_patches": (6, 2, 5)}
    found = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    found["hidden"] = np.array([[1, 1], [0, 0], [1, 0], [1, 1], [1, 1], [1, 1]], np.float32)
    centre = rng.normal(size=(2, 5)).astype(np.float32)
    state = {"step": np.int32(5), "centre": centre[0], "patch_centre": centre[1]}
    spec = dataclasses.replace(OBJECTIVE, centring="centre", warm_steps=10)
    loss = jit(functools.partial(distilled, spec))(found, batch, state)

    temperature = 0.055  # half way from 0.04 to 0.07
    taught = softmax((found["taught_images"] - centre[0]) / temperature)
    logs = np.log(softmax(found["images"] / 0.1))
    total = 0.0
    for row in range(2):
        pairs = [(g, c) for g in range(2) for c in range(4) if g != c]
        total -= np.mean([(taught[row, g] * logs[row, c]).sum() for g, c in pairs])
        each = []
        for crop in (2 * row, 2 * row + 1):
            target = softmax((found["taught_patches"][crop] - centre[1]) / temperature)
            nats = -(target * np.log(softmax(found["patches"][crop] / 0.1))).sum(-1)
            hidden = found["hidden"][crop]
            each.append((nats * hidden).sum() / max(hidden.sum(), 1))
        total += np.mean(each)
    valid = np.array([1, 1, 0], np.float32)
    for crop in range(2):
        total += 0.1 * float(spread(found["vectors"][:, crop], valid)[:2].sum())
    np.testing.assert_allclose(loss.total, total, rtol=1e-5)
    assert loss.weight == 2 and loss.state["step"] == 5
    moved = 0.9 * centre[0] + 0.1 * found["taught_images"][:2].reshape(4, 5).mean(0)
    np.testing.assert_allclose(loss.state["centre"], moved, rtol=1e-5)


def test_hidden_patches_are_a_share_of_some_crops():
    batch = image_batch(400)
    hide = jax.jit(
        lambda batch: hidden_patches(OBJECTIVE, MODEL.encoder, batch, jax.random.key(1)),
        compiler_options=FAST_COMPILE,
    )
    shown, hidden = jax.device_get(hide(batch))
    masks = shown.tokens == MASK
    assert not masks[:, 0].any() and shown.predict.shape == hidden.shape == (400, 8)
    for row in range(400):
        at = shown.predict[row][hidden[row] > 0]
        assert set(np.flatnonzero(masks[row])) == set(at)
    counts = masks.sum(1)
    assert 0.4 < (counts > 0).mean() < 0.6
    assert set(counts[counts > 0]) == set(range(2, 9))  # 10 to 50 % of 16
    turned, again = jax.device_get(hide(jax.tree.map(lambda x: x[::-1], batch)))
    np.testing.assert_array_equal(turned.tokens[::-1], shown.tokens)
    np.testing.assert_array_equal(again[::-1], hidden)


@pytest.fixture(scope="module")
def single():
    return two_steps(OBJECTIVE, MODEL)


def test_the_teacher_is_the_moving_average_of_its_students():
    step, _, start, mesh = program(OBJECTIVE, MODEL)
    state, average = start(), parameters(MODEL)
    for seed in range(2):
        before = jax.device_get(state.params)
        average = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, average, before)
        state, metrics = step(state, to_devices(mesh, image_batch(seed=seed)))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        jax.device_get(state.objective_state["teacher"]),
        average,
    )
    assert {"images", "patches", "spread", "entropy"} <= set(metrics)
    assert np.isfinite([float(value) for value in metrics.values()]).all()


def test_a_run_that_stopped_goes_on_bit_by_bit_with_its_teacher(tmp_path, single):
    step, built, start, mesh = program(OBJECTIVE, MODEL)
    state, _ = step(start(), to_devices(mesh, image_batch(seed=0, empty=1)))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {})
    checkpoints.close()
    again = Checkpoints(tmp_path)
    state = again.restore(built.shapes, built.shardings).state
    again.close()
    state, _ = step(state, to_devices(mesh, image_batch(seed=1, empty=1)))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(single[1]))


@pytest.mark.slow
def test_eight_devices_train_as_one_and_share_the_teacher(single):
    metrics, state = two_steps(OBJECTIVE, MODEL, sizes=(2, 2, 2, 1))
    np.testing.assert_allclose(metrics, single[0], rtol=2e-5)
    student = state.params["encoder"]["blocks"]["feedforward"]["up"]["kernel"]
    teacher = state.objective_state["teacher"]["encoder"]["blocks"]["feedforward"]["up"]["kernel"]
    assert teacher.sharding == student.sharding
    assert teacher.addressable_shards[0].data.size * 4 == teacher.size


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [
        ({}, ENCODER, "set model=PrototypeSpec"),
        ({}, PrototypeSpec(ENCODER), "--model.encoder.mask-vector True"),
        ({"teacher_warm": 0.0}, MODEL, "teacher_warm is 0"),
        ({"hidden_share": (0.5, 0.2)}, MODEL, "hidden_share"),
        ({"local": ImageViews(size=(5, 4))}, MODEL, "--objective.local.size 4 4"),
        ({"local": ImageViews()}, MODEL, "--objective.local-crops 0"),
        ({"first": ImageViews(size=(4, 4))}, MODEL, "must be 8 8, or empty"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, model, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(OBJECTIVE, **changes).check(model, ImageData(image=(8, 8)))


def test_centred_targets_trace_and_microbatches_are_refused():
    objective = CENTRED.built_for(MODEL, ImageData(image=(8, 8)))
    params = parameters(MODEL)

    def loss(params, batch):
        state = objective.init(params)
        return objective.loss(MODEL.build().apply, params, state, batch, jax.random.key(0))

    made = jax.eval_shape(loss, params, image_batch(4))
    assert made.state["centre"].shape == (16,) and "patches" not in made.metrics
    with pytest.raises(UserError, match=r"set loop\.accumulate to 1"):
        program(OBJECTIVE, MODEL, accumulate=2)
