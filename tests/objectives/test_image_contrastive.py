"""SimCLR and MoCo v3: losses against plain forms, whole batches in parts, the moving average."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_vision import ENCODER, image_batch, parameters, program, two_steps

from biofm_jax.data.imaging import ImageData
from biofm_jax.errors import UserError
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.predictor import PredictorSpec
from biofm_jax.objectives.crops import apart, crops
from biofm_jax.objectives.image_views import ImageViews
from biofm_jax.objectives.mocov3 import MoCoV3, predicted
from biofm_jax.objectives.simclr import SimCLR, nt_xent
from biofm_jax.objectives.teacher import momentum_at
from biofm_jax.train.placement import to_devices

PLAIN = ImageViews(jitter=0.0, grey=0.0, blur=0.0)  # quick to compile
MODEL = dataclasses.replace(ENCODER, layers=1, head=ProjectionHead(8))
SIMCLR = SimCLR(augment=PLAIN)
MOCO = MoCoV3(momentum=0.9, first=PLAIN, second=dataclasses.replace(PLAIN, solarise=0.5))
PREDICTOR = PredictorSpec(MODEL, hidden=16)
EXAMPLES = np.array([3, 5, -1, 5, 9])


def unit_vectors(seed):
    x = np.random.default_rng(seed).normal(size=(5, 4)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_nt_xent_is_that_of_a_plain_form():
    first, second = unit_vectors(0), unit_vectors(1)
    views = [(EXAMPLES[i], x[i]) for x in (first, second) for i in range(5)]
    nats, hits = [], []
    for at, (record, vector) in enumerate(views):
        if record < 0:
            continue
        partner = views[(at + 5) % 10][1]
        logits = [partner @ vector / 0.1]
        logits += [other @ vector / 0.1 for there, other in views if there not in (-1, record)]
        nats.append(np.log(np.exp(logits).sum()) - logits[0])
        hits.append(logits[0] == max(logits))
    compare = jax.jit(nt_xent, compiler_options=FAST_COMPILE)
    loss = compare(first, second, EXAMPLES, 0.1, {})
    np.testing.assert_allclose(loss.total / loss.weight, np.mean(nats), rtol=1e-5)
    np.testing.assert_allclose(loss.metrics["accuracy"] / loss.weight, np.mean(hits), rtol=1e-5)
    assert loss.weight == 4


def test_what_is_predicted_is_that_of_a_plain_form():
    queries, keys = unit_vectors(2), unit_vectors(3)
    nats, hits = jax.jit(predicted, compiler_options=FAST_COMPILE)(queries, keys, EXAMPLES, 0.2)
    for i in (0, 1, 3, 4):
        others = [j for j in range(5) if EXAMPLES[j] not in (-1, EXAMPLES[i])]
        logits = np.array([queries[i] @ keys[j] / 0.2 for j in (i, *others)])
        np.testing.assert_allclose(nats[i], np.log(np.exp(logits).sum()) - logits[0], rtol=1e-5)
        assert hits[i] == (logits[0] == logits.max())


@pytest.fixture(scope="module")
def drawn():
    augments = (PLAIN, dataclasses.replace(PLAIN, solarise=0.5))
    draw = jax.jit(functools.partial(crops, augments), compiler_options=FAST_COMPILE)
    return lambda batch: jax.device_get(draw(batch, jax.random.key(4)))


def test_crops_of_an_image_do_not_depend_on_the_batch(drawn):
    batch = image_batch(4)
    turned = jax.tree.map(lambda x: x[::-1], batch)
    one, other = drawn(batch), drawn(turned)
    np.testing.assert_array_equal(apart(one.images, 2), apart(other.images, 2)[::-1])
    assert one.examples[:, 0].tolist() == list(range(8))
    assert np.abs(one.images[0] - one.images[1]).max() > 0.01


@pytest.fixture(scope="module")
def simclr():
    return two_steps(SIMCLR, MODEL)[0]


def test_microbatches_of_simclr_have_the_negatives_of_the_whole_batch(simclr):
    np.testing.assert_allclose(two_steps(SIMCLR, MODEL, accumulate=2)[0], simclr, rtol=1e-5)


@pytest.mark.slow
def test_eight_devices_train_as_one(simclr):
    sharded = two_steps(SIMCLR, MODEL, sizes=(2, 2, 2, 1))[0]
    np.testing.assert_allclose(sharded, simclr, rtol=1e-5)


def test_the_momentum_encoder_is_the_moving_average_of_the_encoder():
    step, _, start, mesh = program(MOCO, PREDICTOR)
    state = start()
    average = parameters(PREDICTOR)["encoder"]
    for seed in range(2):
        before = jax.device_get(state.params["encoder"])
        average = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, average, before)
        state, metrics = step(state, to_devices(mesh, image_batch(seed=seed)))
        assert float(metrics["gradient_norm"]) > 0
    found = jax.device_get(state.objective_state)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        found["teacher"]["encoder"],
        average,
    )
    assert found["step"] == 2 and set(found["teacher"]) == {"encoder"}


def test_the_momentum_rises_to_one():
    rise = [float(momentum_at(np.int32(step), 0.9, 10)) for step in (0, 5, 10, 12)]
    np.testing.assert_allclose(rise, [0.9, 0.95, 1.0, 1.0], rtol=1e-6)
    assert momentum_at(np.int32(7), 0.9, 0) == np.float32(0.9)


@pytest.mark.parametrize(
    ("objective", "model", "words"),
    [
        (SIMCLR, ENCODER, "SimCLR needs model.head=ProjectionHead"),
        (MOCO, MODEL, "set model=PredictorSpec"),
        (MoCoV3(momentum=1.2), PREDICTOR, r"objective\.momentum is 1\.2"),
        (MoCoV3(momentum_steps=-1), PREDICTOR, r"objective\.momentum_steps is -1"),
        (MoCoV3(temperature=0.0), PREDICTOR, r"objective\.temperature is 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(objective, model, words):
    with pytest.raises(UserError, match=words):
        objective.check(model, ImageData(image=(8, 8)))


def test_a_momentum_encoder_needs_the_whole_batch():
    with pytest.raises(UserError, match=r"set loop\.accumulate to 1"):
        program(MOCO, PREDICTOR, accumulate=2)
    with pytest.raises(UserError, match="must be ProjectionHead"):
        PredictorSpec(ENCODER).build()
