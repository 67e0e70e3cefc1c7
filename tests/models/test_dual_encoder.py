"""Two towers: slots that agree, packed = alone, and training that no layout of devices changes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_batches import VOCABULARY as LETTERS
from toy_graphs import BONDS, FEATURES, toy_graphs
from toy_graphs import VOCABULARY as ATOMS

from biofm_jax.data.batch import Batch, batch_shapes
from biofm_jax.data.graphs import GraphRows, GraphStore
from biofm_jax.data.pairs import PairRows, PairStore
from biofm_jax.data.pipeline import BatchIterator, FixedRows, RowBuilder
from biofm_jax.data.token_store import TokenStore
from biofm_jax.errors import UserError
from biofm_jax.models.dual_encoder import DualEncoderSpec, SharedSpace
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import PredictionHead, ProjectionHead
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.alignment import SMALLEST, Alignment, _capped
from biofm_jax.objectives.contrastive import Contrastive, softmax_loss
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import build_program

SPEC = DualEncoderSpec(
    first=GraphSpec(
        vocabulary=ATOMS.size,
        features=FEATURES,
        bonds=BONDS,
        layers=2,
        width=16,
        dropout=0.1,
        head=ProjectionHead(8),
        init_std=0.3,
    ),
    second=TransformerSpec(
        layers=1, width=24, heads=2, dropout=0.1, head=ProjectionHead(8), init_std=0.1
    ),
)


@functools.cache
def store() -> PairStore:
    """Graphs of 1 to 11 atoms, and for each a text of up to three letters an atom."""
    graphs, rng = toy_graphs(40, seed=2), np.random.default_rng(0)
    texts = [rng.integers(4, 24, rng.integers(1, 3 * len(graph) + 1)) for graph in graphs]
    contents = np.stack([np.arange(40) // 2, np.arange(40) % 30])  # some equal in a view
    return PairStore(
        GraphStore.from_examples(graphs, ATOMS),
        TokenStore.from_arrays(texts, LETTERS),
        contents.astype(np.int32),
    )


def packed(rows: int, atoms=16, letters=40, slots=4):
    """All records in batches of so many rows."""
    pair = store()
    first = GraphRows(pair.first, atoms, slots, rows)
    builder = PairRows(pair, first, RowBuilder(pair.second, letters, slots, rows))
    return list(BatchIterator(FixedRows(builder, np.arange(len(pair))), builder))


@functools.cache
def params():
    init = jax.jit(SPEC.build().init, compiler_options=FAST_COMPILE)
    return jax.device_get(init(jax.random.key(0), None))


def test_a_record_stands_in_the_same_slot_of_both_views_and_whole():
    batches = packed(5)
    seen = np.concatenate([b.examples[b.examples >= 0] for b in batches])
    np.testing.assert_array_equal(np.sort(seen), np.arange(40))
    for batch in batches:
        np.testing.assert_array_equal(batch.examples, batch.pair.examples)
        for row, slot in np.argwhere(batch.examples >= 0):
            record = int(batch.examples[row, slot])
            for view, of in ((batch, store().first), (batch.pair, store().second)):
                tokens = view.tokens[row, view.segment_ids[row] == slot + 1]
                start, end = of.offsets[record : record + 2]
                np.testing.assert_array_equal(tokens, of.ids[start:end])


def test_no_row_is_nearly_empty_in_both_views():
    """The longer view decides what fits, so that one of the two fills the rows."""
    batches = packed(40)
    filled = [
        np.concatenate([(v.segment_ids > 0).mean(1) for v in views])
        for views in (batches, [b.pair for b in batches])
    ]
    used = filled[0] > 0
    assert np.maximum(*filled)[used].mean() > 0.75


def test_stores_of_other_records_are_refused():
    other = dataclasses.replace(store().second, hashes=np.arange(40, dtype=np.uint64))
    with pytest.raises(ValueError, match="other records"):
        PairStore(store().first, other)


@functools.cache
def compiled(spec):
    return jax.jit(spec.build().apply, compiler_options=FAST_COMPILE)


def apply(params, batch, rngs=None):
    return compiled(SPEC)(params, batch)


def vectors(batches) -> np.ndarray:
    """(2, 40, 8) projections of both views, by record."""
    found = np.zeros((2, 40, 8))
    for batch in batches:
        out = apply(params(), batch)
        for view, logits in enumerate((out.logits, out.pair.logits)):
            there = batch.examples >= 0
            found[view, batch.examples[there]] = np.asarray(logits)[there]
    return found


def test_packed_is_alone():
    np.testing.assert_allclose(vectors(packed(5)), vectors(packed(8, slots=1)), atol=1e-5)


def test_the_views_go_through_their_own_towers_and_the_temperature_starts_as_told():
    batch, model = packed(8)[0], SPEC.build()
    out = apply(params(), batch)
    first = compiled(SPEC.first)(params()["first"], batch.replace(pair=None))
    second = compiled(SPEC.second)(params()["second"], batch.pair)
    np.testing.assert_allclose(out.pooled, first.pooled, atol=1e-6)
    np.testing.assert_allclose(out.pair.pooled, second.pooled, atol=1e-6)
    np.testing.assert_allclose(np.exp(-out.scale), 0.07, rtol=1e-6)
    names = model.axes(params())
    assert names["space"] == {"scale": ()}
    fixed = dataclasses.replace(SPEC, head=SharedSpace(0.2, learned=False)).build()
    rest = {name: part for name, part in params().items() if name != "space"}
    assert jax.eval_shape(fixed.init, jax.random.key(0), None).keys() == rest.keys()
    got = jax.eval_shape(fixed.apply, rest, batch).scale
    assert got.shape == () and "space" not in fixed.axes(rest)


def test_the_loss_is_that_of_one_model_at_the_same_temperature():
    batch = packed(8)[0]
    found = Alignment().build(ATOMS).loss(apply, params(), {}, batch, None)
    out = apply(params(), batch)
    both = [np.asarray(o.logits).reshape(-1, 8) for o in (out, out.pair)]
    one, two = (x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-12) for x in both)
    want = softmax_loss(jnp.asarray(one @ two.T / 0.07), batch, {})
    np.testing.assert_allclose(found.total, want.total, rtol=1e-5)
    assert found.weight == (batch.examples >= 0).sum()
    np.testing.assert_allclose(found.metrics["temperature"] / found.weight, 0.07, rtol=1e-5)
    pairs = Contrastive("sigmoid", temperature=0.07, bias=-10.0).build(ATOMS)
    want = pairs.compare((one.reshape(out.logits.shape), two.reshape(out.logits.shape)), batch, {})
    found = Alignment("sigmoid").build(ATOMS).loss(apply, params(), {}, batch, None)
    np.testing.assert_allclose(found.total, want.total, rtol=1e-5)


def test_a_temperature_at_its_floor_can_rise_but_not_fall():
    at, pull = float(-np.log(SMALLEST)) + 0.1, jax.grad(lambda s, sign: sign * _capped(s))
    np.testing.assert_allclose(np.exp(_capped(jnp.float32(at))), 100, rtol=1e-5)
    assert pull(at, 1.0) == 1 and pull(at, -1.0) == 0
    assert pull(1.0, -1.0) == -1


@functools.cache
def program(sizes, accumulate):
    batch = packed(8)[0]
    mesh = MeshSpec(*sizes).build(jax.devices()[: int(np.prod(sizes))])
    optimizer = OptimizerSpec(learning_rate=1e-2, schedule="constant", warmup=1)
    built = build_program(
        SPEC.build(),
        Alignment().build(ATOMS),
        lambda axes: optimizer.build(20, axes),
        mesh,
        batch,
        accumulate,
    )
    return mesh, built, built.step.lower(built.shapes, batch).compile(FAST_COMPILE)


def trained(sizes=(1, 1, 1, 1), accumulate=1, steps=2) -> np.ndarray:
    """(steps, 3) loss, gradient norm and temperature of each step, with dropout on."""
    mesh, built, step = program(sizes, accumulate)
    state, found = built.adopt(0, params()), []
    for _ in range(steps):
        state, metrics = step(state, to_devices(mesh, packed(8)[0]))
        found.append([float(metrics[k]) for k in ("loss", "gradient_norm", "temperature")])
    if sizes[1] > 1:
        for tower in ("first", "second"):
            kernel = state.params[tower]["blocks"]["feedforward"]["up"]["kernel"]
            assert kernel.addressable_shards[0].data.size * sizes[1] == kernel.size
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"sizes": (2, 2, 1, 1)}, {"accumulate": 4}],
    ids=["data and fsdp", "accumulate"],
)
def test_every_mesh_and_microbatch_trains_as_one_device_does(options):
    single = trained()
    assert single[0, 0] != single[1, 0] and single[0, 2] != single[1, 2]
    np.testing.assert_allclose(trained(**options), single, rtol=1e-5)


@pytest.mark.slow
def test_towers_learn_to_find_each_other():
    values = trained(steps=40)
    assert values[-1, 0] < values[0, 0] - 1.0


def test_what_cannot_be_is_named():
    narrow = dataclasses.replace(SPEC.second, head=ProjectionHead(4))
    for change, field in (
        ({"second": narrow}, "second.head.width"),
        ({"first": dataclasses.replace(SPEC.first, head=None)}, "second.head.width"),
        ({"first": dataclasses.replace(SPEC.first, head=PredictionHead(8))}, "first.head"),
        ({"head": SharedSpace(0.0)}, "head.temperature"),
        ({"second": dataclasses.replace(SPEC.second, dtype="bfloat16")}, "second.dtype"),
    ):
        with pytest.raises(UserError, match=f"DualEncoderSpec.{field}"):
            dataclasses.replace(SPEC, **change).build()
    batch = packed(2)[0].replace(pair=None)
    with pytest.raises(UserError, match="MoleculePairData"):
        SPEC.build().apply(params(), batch)
    with pytest.raises(UserError, match="DualEncoderSpec"):
        one = SPEC.first.build()
        Alignment().build(ATOMS).loss(one.apply, params()["first"], {}, batch, None)


PICTURES = VisionSpec(
    layers=1, width=16, heads=2, image=(8, 8), patch=(4, 4), head=ProjectionHead(8, 1, bias=False)
)


class Captioned:
    """The shapes of images with captions."""

    vocabulary, max_tokens, pair_vocabulary = None, 1, LETTERS

    def shapes(self, rows):
        images = jax.ShapeDtypeStruct((rows, 8, 8, 3), np.uint8)
        pair = batch_shapes(rows, 6, 1)
        return batch_shapes(rows, 1, 1).replace(images=images, pair=pair)


def test_a_tower_may_read_images():
    last = dataclasses.replace(SPEC.second, dropout=0.0, pooling="last", causal=True)
    spec = DualEncoderSpec(PICTURES, last, SharedSpace(bias=-2.0))
    spec.check(Captioned(), (1, 1, 1, 1))
    with pytest.raises(UserError, match=r"data\.image is .* model\.first\.image"):
        larger = dataclasses.replace(PICTURES, image=(16, 16))
        dataclasses.replace(spec, first=larger).check(Captioned(), (1, 1, 1, 1))
    with pytest.raises(UserError, match=r"model\.second is a VisionSpec"):
        DualEncoderSpec(PICTURES, PICTURES).check(Captioned(), (1, 1, 1, 1))
    model, rng = spec.build(), np.random.default_rng(0)
    params = model.init(jax.random.key(0), None)
    assert "bias" not in params["first"]["head"]["dense_0"]
    assert model.axes(params)["space"] == {"scale": (), "bias": ()}
    ids = np.zeros((2, 1), np.int32)
    captions = np.array([[4, 5, 6, 0, 0, 0], [4, 5, 6, 7, 8, 9]], np.int32)
    positions = np.broadcast_to(np.arange(6, dtype=np.int32), (2, 6))
    segments = (captions > 0).astype(np.int32)
    examples = np.arange(2, dtype=np.int32)[:, None]
    batch = Batch(ids, ids + 1, ids, examples, images=rng.random((2, 8, 8, 3), np.float32))
    batch = batch.replace(pair=Batch(captions, segments, positions, examples))
    out = jax.jit(model.apply)(params, batch)
    assert out.logits.shape == out.pair.logits.shape == (2, 1, 8) and out.bias == -2
    ends = np.asarray(out.pair.hidden)[[0, 1], [2, 5]]
    np.testing.assert_allclose(out.pair.pooled[:, 0], ends, atol=1e-6)
    loss = Alignment("sigmoid", bias=7.0).build(LETTERS).loss
    found = loss(lambda params, batch, rngs: out, params, {}, batch, None)
    one, two = (np.asarray(x)[:, 0] for x in (out.logits, out.pair.logits))
    one, two = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, two))
    signs = 2 * np.eye(2) - 1
    want = np.log1p(np.exp(-signs * (one @ two.T / 0.07 - 2))).sum()
    np.testing.assert_allclose(found.total, want, rtol=1e-5)
