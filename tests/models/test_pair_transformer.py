"""A transformer of pairs: what turns, packing and padding do not change; how it computes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_conformers import VOCABULARY, packed_conformers, toy_conformers

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_conformer import ConformerData
from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead, ProjectionHead
from biofm_jax.models.pair_transformer import PairTransformerSpec
from biofm_jax.train.mesh import abstract_mesh, parameter_shardings

SPEC = PairTransformerSpec(
    vocabulary=VOCABULARY.size,
    layers=2,
    width=16,
    heads=4,
    kernels=6,
    dropout=0.2,
    attention_dropout=0.1,
    init_std=0.3,
)
EXAMPLES = toy_conformers(5)


@functools.cache
def parameters(spec=SPEC):
    shapes = jax.eval_shape(lambda: spec.build().init(jax.random.key(0), None))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        offset = float(path[-1].key in ("scale", "mul", "stds"))
        return jnp.asarray(offset + 0.2 * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def compiled(spec=SPEC, train=False, collect=()):
    apply = spec.build().apply
    return jax.jit(
        lambda params, batch, rngs=None: apply(
            params, batch, rngs=rngs, train=train, collect=collect
        ),
        compiler_options=FAST_COMPILE,
    )


def close(ours, theirs, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


def test_a_turn_and_a_shift_change_coordinates_alike_and_nothing_else():
    (batch,) = packed_conformers(EXAMPLES)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    shift = np.array([0.5, -1.0, 2.0])
    out = compiled()(parameters(), batch)
    for matrix in (turn, -turn):  # a rotation and a reflection, whichever is which
        other = (np.float64(batch.coordinates) @ matrix + shift).astype(np.float32)
        turned = compiled()(parameters(), batch.replace(coordinates=other))
        for name in ("hidden", "logits", "pooled", "distances"):
            close(getattr(turned, name), getattr(out, name), atol=5e-5)
        close(turned.coordinates, np.asarray(out.coordinates) @ matrix + shift, atol=5e-5)
    assert np.abs(out.coordinates - batch.coordinates)[batch.segment_ids > 0].max() > 1e-2
    stretched = compiled()(parameters(), batch.replace(coordinates=1.1 * batch.coordinates))
    assert np.abs(stretched.logits - out.logits).max() > 1e-3


def test_packed_equals_alone():
    (batch,) = packed_conformers(EXAMPLES)
    assert (batch.examples >= 0).sum(1).max() > 1
    out = compiled()(parameters(), batch)
    for number, example in enumerate(EXAMPLES):
        (single,) = packed_conformers([example], rows=1, tokens=len(example) + 3, slots=1)
        alone = compiled()(parameters(), single)
        ((row, slot),) = np.argwhere(batch.examples == number)
        mine, own = batch.segment_ids[row] == slot + 1, slice(0, len(example))
        for name in ("hidden", "logits", "coordinates"):
            close(getattr(out, name)[row, mine], getattr(alone, name)[0, own])
        close(out.distances[row][mine][:, mine], alone.distances[0, own, own])
        close(out.pooled[row, slot], alone.pooled[0, 0])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(out))
    other = batch.segment_ids[:, :, None] != batch.segment_ids[:, None, :]
    assert np.all(np.asarray(out.distances)[other] == 0.0)


def test_scan_equals_loop_and_remat_changes_no_gradient():
    (batch,) = packed_conformers(EXAMPLES)
    options = dict(train=True, rngs=jax.random.key(5))
    apply = compiled(train=True, collect=("layers", "attentions"))
    looped = dataclasses.replace(SPEC, scan=False)
    ours = apply(parameters(), batch, options["rngs"])
    close(ours, compiled(looped, True, ("layers", "attentions"))(
        parameters(), batch, options["rngs"]))  # fmt: skip
    assert ours.layers.shape == (3, *batch.tokens.shape, 16)
    np.testing.assert_allclose(ours.attentions.sum(-1), 1.0, atol=1e-5)

    def gradient(spec):
        def loss(params):
            out = spec.build().apply(params, batch, **options)
            return jnp.sum(jnp.sin(out.logits)) + jnp.sum(out.coordinates**2 + out.distances.sum())

        return jax.jit(jax.grad(loss), compiler_options=FAST_COMPILE)(parameters())

    plain = gradient(SPEC)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(plain))
    close(gradient(dataclasses.replace(SPEC, remat="full")), plain, atol=1e-5 * scale)
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(plain))


def test_dropout_is_the_same_in_microbatches():
    (batch,) = packed_conformers(EXAMPLES)
    train, key = compiled(train=True), jax.random.key(1)
    whole = train(parameters(), batch, key)
    halves = [train(parameters(), jax.tree.map(lambda x: x[part], batch), key)  # noqa: B023
              for part in (slice(0, 2), slice(2, 4))]  # fmt: skip
    close(whole, jax.tree.map(lambda *x: jnp.concatenate(x), *halves))
    assert np.abs(whole.pooled - compiled()(parameters(), batch).pooled).max() > 1e-2
    with pytest.raises(UserError, match="rngs=key"):
        train(parameters(), batch, None)


def test_a_mesh_cuts_every_large_parameter():
    model = PairTransformerSpec().build()
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), None))
    axes = model.axes(shapes)
    jax.tree.map(lambda leaf, names: leaf.ndim == len(names) or pytest.fail(), shapes, axes)
    laid = parameter_shardings(abstract_mesh((1, 4, 4, 1)), axes, shapes)
    for leaf, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(laid), strict=True):
        assert any(sharding.spec) or leaf.size < 2**18


def test_what_it_cannot_read_is_refused():
    data = ConformerData()
    SPEC.check(data, (1, 1, 1, 1))
    with pytest.raises(UserError, match=r"--mesh\.context 1"):
        SPEC.check(data, (1, 1, 1, 2))
    other = MoleculeData()
    with pytest.raises(UserError, match="ConformerData"):
        dataclasses.replace(SPEC, vocabulary=other.vocabulary.size).check(other, (1, 1, 1, 1))
    (batch,) = packed_conformers(EXAMPLES)
    with pytest.raises(UserError, match="the batch has none"):
        SPEC.build().apply(parameters(), batch.replace(coordinates=None))
    for changes, field in ((dict(heads=3), "heads"), (dict(kernels=0), "kernels")):
        with pytest.raises(UserError, match=f"PairTransformerSpec.{field} "):
            dataclasses.replace(SPEC, **changes).build()


def test_flops_by_hand():
    spec = dataclasses.replace(SPEC, head=ProjectionHead(8, 1))
    layer = 4 * 16 * 16 + 2 * 16 * 64 + 2 * 16 * 10
    bias = 10 * (6 * 6 + 6 * 4)
    assert spec.train_flops(10, pooled=0.25) == 6 * (2 * layer + bias + 0.25 * 16 * 8)
    language = dataclasses.replace(SPEC, head=LanguageHead(tied=False))
    more = language.train_flops(10, predicted=0.5) - language.train_flops(10)
    assert more == 6 * 0.5 * (16 * 16 + 16 * VOCABULARY.size)
