"""Slides: pooling against its plain form, bags by themselves, and attention on planted lesions."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE

from biofm_jax.data.bags import BagRows
from biofm_jax.data.batch import Batch
from biofm_jax.data.pipeline import BatchIterator, FixedRows
from biofm_jax.data.planted_slides import PlantedSlides, planted_slide
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.models.gated_pool import GatedPool
from biofm_jax.models.slide import AbmilSpec, SlideSpec
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.loop import LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec

DATA = PlantedSlides(slides=240, fewest=30, max_tokens=48, width=24, share=0.08)
SPECS = {
    "abmil": AbmilSpec(vectors=24, width=16, gate=8),
    "transformer": SlideSpec(vectors=24, layers=1, width=16, heads=2, gate=8),
}


@functools.cache
def store():
    return DATA.open()


def test_a_slide_follows_from_its_number_and_seed():
    one, other = (planted_slide(7, 3, (30, 48), 12, 0.1) for _ in range(2))
    np.testing.assert_array_equal(one.bag.vectors, other.bag.vectors)
    assert one.lesion.sum() == round(0.1 * len(one.bag))
    assert not planted_slide(8, 3, (30, 48), 12, 0.1).lesion.any()
    assert (planted_slide(7, 4, (30, 48), 12, 0.1).bag.places[:5] != one.bag.places[:5]).any()


def test_bags_stand_in_rows_whole_and_long_ones_as_a_run():
    batch = next(DATA.batches(store(), batch_size=5, seed=0))
    assert jax.tree.map(np.shape, batch) == jax.tree.map(lambda x: x.shape, DATA.shapes(5))
    for row, record in enumerate(batch.examples[:, 0]):
        start, end = store().offsets[record : record + 2]
        there = batch.segment_ids[row] > 0
        np.testing.assert_array_equal(batch.vectors[row, there], store().vectors[start:end])
        np.testing.assert_array_equal(batch.positions[row, there], store().places[start:end])
        assert not batch.vectors[row, ~there].any()
        assert batch.targets[row] == record % 2
    short = BagRows(store(), 20, 1, 2, seed=1)
    cut = next(iter(BatchIterator(FixedRows(short, np.arange(2)), short)))
    start, end = store().offsets[:2]
    first = int(np.flatnonzero((store().vectors[start:end] == cut.vectors[0, 0]).all(1))[0])
    wanted = slice(start + first, start + first + 20)
    np.testing.assert_array_equal(cut.vectors[0], store().vectors[wanted])
    np.testing.assert_array_equal(cut.positions[0], store().places[wanted])


def test_gated_pooling_is_the_papers_equations():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(2, 5, 3)).astype(np.float32)
    segments = np.array([[1, 1, 2, 2, 2], [1, 1, 1, 0, 0]], np.int32)
    batch = Batch(segments, segments, segments, np.zeros((2, 2), np.int32))
    module = GatedPool(3, 4, 1.0)
    variables = nn.unbox(module.init(jax.random.key(0), hidden, batch))
    pooled, weights = jax.device_get(module.apply(variables, hidden, batch))
    found = jax.device_get(variables["params"])
    v, u = found["gate"]["kernel"][:, 0], found["gate"]["kernel"][:, 1]
    w = found["score"]["kernel"][:, 0]
    for row, slot, at in ((0, 0, [0, 1]), (0, 1, [2, 3, 4]), (1, 0, [0, 1, 2])):
        h = hidden[row, at]
        scores = (np.tanh(h @ v) / (1 + np.exp(-h @ u))) @ w
        a = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(weights[row, slot, at], a, rtol=1e-5)
        np.testing.assert_allclose(pooled[row, slot], a @ h, atol=1e-6)
        assert weights[row, slot].sum() == pytest.approx(1, rel=1e-5)
    assert not pooled[1, 1].any() and not weights[1, 1].any()


@functools.cache
def trained(name: str):
    """A model after its training, and what it says of the slides that were held out."""
    model = SPECS[name].build()
    result = fit(
        model,
        Supervised("binary").build(DATA.vocabulary),
        DATA.batches(store(), batch_size=16, seed=0),
        optimizer=OptimizerSpec(learning_rate=1e-2, warmup=10),
        mesh=MeshSpec(data=1).build(jax.devices()[:1]),
        loop=LoopSpec(steps=120, batch_size=16, log_every=40),
        show=False,
    )
    params = jax.device_get(result.state.params)
    (held,) = DATA.batches(store(), batch_size=60, seed=0, holdout=True)
    apply = jax.jit(model.apply, compiler_options=FAST_COMPILE)
    return apply, params, held, jax.device_get(apply(params, held))


@pytest.mark.parametrize("name", SPECS)
def test_slides_are_told_apart_by_their_lesions(name):
    _, params, held, out = trained(name)
    sick = held.examples[:, 0] % 2 == 1
    scores = out.logits[:, 0, 0]
    auc = (scores[sick][:, None] > scores[~sick][None]).mean()
    assert auc > 0.95
    looks = out.pool_weights[:, 0]
    if name == "transformer":  # whose tiles have seen one another before they are weighed

        def score(vectors):
            return SPECS[name].build().apply(params, held.replace(vectors=vectors)).logits.sum()

        slope = jax.jit(jax.grad(score), compiler_options=FAST_COMPILE)(held.vectors)
        looks = np.asarray((slope * held.vectors).sum(-1))
    pointed, top = [], []
    for row in np.flatnonzero(sick):
        start, end = store().offsets[held.examples[row, 0] : held.examples[row, 0] + 2]
        lesion = store().lesion[start:end]
        pointed.append(looks[row, : end - start][lesion].sum())
        top.append(lesion[looks[row, : end - start].argmax()])
    # By chance 8 % of the slides, and of the attention.
    assert np.mean(top) > (0.9 if name == "abmil" else 0.6)
    assert name != "abmil" or np.mean(pointed) > 0.5


@pytest.mark.parametrize("name", SPECS)
def test_a_slide_alone_and_in_any_order_of_its_tiles(name):
    apply, params, held, out = trained(name)
    first = np.arange(len(held.tokens)) == 0
    alone = jax.tree.map(lambda x: np.where(first.reshape(-1, *[1] * (x.ndim - 1)), x, 0), held)
    alone = alone.replace(examples=np.where(first[:, None], held.examples, -1))
    found = apply(params, alone)
    np.testing.assert_allclose(found.logits[0], out.logits[0], atol=1e-5)
    assert not np.asarray(found.pooled)[1:].any()
    order = np.random.default_rng(0).permutation(held.tokens.shape[1])
    mixed = held.replace(
        **{n: getattr(held, n)[:, order] for n in ("tokens", "segment_ids", "positions", "vectors")}
    )
    np.testing.assert_allclose(apply(params, mixed).logits, out.logits, atol=1e-4)


def test_what_does_not_fit_is_named():
    for spec in SPECS.values():
        with pytest.raises(UserError, match=r"model\.vectors 24"):
            dataclasses.replace(spec, vectors=7).check(DATA, (1, 1, 1, 1))
    with pytest.raises(UserError, match="width is 18"):
        SlideSpec(width=18, heads=2).build()
    with pytest.raises(UserError, match=r"data\.share"):
        PlantedSlides(share=0.0)
    with pytest.raises(UserError, match="fewest 500"):
        PlantedSlides(fewest=500)
    with pytest.raises(UserError, match="PlantedSlides"):
        SPECS["abmil"].check(ProteinData(), (1, 1, 1, 1))
