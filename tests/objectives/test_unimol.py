"""Uni-Mol's objective: what is moved, the three losses by hand, and how it is accumulated."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_conformers import VOCABULARY, packed_conformers, toy_conformers

from biofm_jax.data.molecule_conformer import ConformerData
from biofm_jax.errors import UserError
from biofm_jax.models.api import Outputs
from biofm_jax.models.pair_transformer import PairTransformerSpec
from biofm_jax.objectives.masked import MaskedLM, corrupt
from biofm_jax.objectives.unimol import UniMol, compare, moved, smooth_l1

SPEC = PairTransformerSpec(
    vocabulary=VOCABULARY.size, layers=1, width=8, heads=2, kernels=4, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip


def batch(sizes=(3, 9)):
    (made,) = packed_conformers(toy_conformers(8, sizes=sizes))
    return made


def test_only_atoms_that_are_shown_as_others_are_moved_and_by_at_most_the_noise():
    rows, key = batch(), jax.random.key(3)

    @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
    def damaged(rows):
        hidden = corrupt(MaskedLM(0.6, 0.6, 0.2), VOCABULARY, rows, key)
        return hidden, moved(0.5, hidden, rows, key)

    hidden, shown = damaged(rows)
    shift = np.abs(shown.coordinates - rows.coordinates)
    changed = np.asarray(hidden.tokens != rows.tokens)
    chosen = np.zeros_like(changed)
    chosen[np.arange(len(changed))[:, None], hidden.predict] = np.asarray(hidden.weights) > 0
    assert changed.sum() > 10 and (chosen & ~changed).sum() > 0
    assert np.all(shift[changed].max(1) > 0) and shift.max() <= 0.5 and shift.max() > 0.4
    assert np.all(shift[~changed] == 0.0)
    half = jax.tree.map(lambda x: x[2:], rows)
    _, again = damaged(half)
    np.testing.assert_array_equal(again.coordinates, shown.coordinates[2:])


def test_the_three_losses_by_hand():
    rows, rng = batch(), np.random.default_rng(0)
    hide = functools.partial(corrupt, MaskedLM(0.3), VOCABULARY)
    shown = jax.jit(hide, compiler_options=FAST_COMPILE)(rows, jax.random.key(0))
    b, t = rows.tokens.shape
    k = shown.predict.shape[1]
    out = Outputs(
        logits=jnp.asarray(rng.normal(size=(b, k, VOCABULARY.size)), jnp.float32),
        coordinates=jnp.asarray(rng.normal(size=(b, t, 3)), jnp.float32),
        distances=jnp.asarray(rng.normal(size=(b, t, t)), jnp.float32),
    )
    spec = UniMol(elements=2.0, coordinates=3.0, distances=5.0)
    got = compare(spec, out, shown, rows, {})
    total, wanted = 0.0, dict.fromkeys(("element_loss", "coordinate_loss", "distance_loss"), 0.0)
    huber = lambda x: 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5  # noqa: E731
    for row, place in np.argwhere(np.asarray(shown.weights) > 0):
        i = int(shown.predict[row, place])
        logits = np.float64(out.logits[row, place])
        nats = np.log(np.exp(logits).sum()) - logits[rows.tokens[row, i]]
        own = np.mean([huber(float(out.coordinates[row, i, a] - rows.coordinates[row, i, a]))
                       for a in range(3)])  # fmt: skip
        far = []
        for j in np.flatnonzero(rows.segment_ids[row] == rows.segment_ids[row, i]):
            distance = np.linalg.norm(rows.coordinates[row, i] - rows.coordinates[row, j])
            if distance > 0:
                normal = (distance - 6.312581655060595) / 3.3899264663911888
                far.append(huber(float(out.distances[row, i, j]) - normal))
        total += 2 * nats + 3 * own + 5 * np.mean(far)
        for name, part in zip(wanted, (nats, own, np.mean(far)), strict=True):
            wanted[name] += part
    assert got.weight == shown.weights.sum() > 3
    np.testing.assert_allclose(got.total, total, rtol=1e-4)
    for name, value in wanted.items():
        np.testing.assert_allclose(got.metrics[name], value, rtol=1e-4)
    np.testing.assert_allclose(smooth_l1(jnp.array([0.5, -3.0])), [0.125, 2.5])


@functools.cache
def compiled(objective):
    built, apply = objective.build(VOCABULARY), SPEC.build().apply

    @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
    def run(params, rows):
        def total(params):
            loss = built.loss(apply, params, {}, rows, jax.random.key(1))
            return loss.total, (loss.weight, loss.metrics)

        return jax.value_and_grad(total, has_aux=True)(params)

    return run


def test_microbatches_add_up_and_a_step_of_descent_lowers_the_loss():
    init = jax.jit(lambda key: SPEC.build().init(key, None), compiler_options=FAST_COMPILE)
    params, rows = init(jax.random.key(0)), batch()
    run = compiled(UniMol(rate=0.4))
    halves = [jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], rows) for i in range(2)]
    parts = [run(params, half) for half in halves]
    whole = run(params, jax.tree.map(lambda *x: np.concatenate(x), *halves))
    total = jax.tree.map(lambda a, b: a + b, *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), whole, total)
    (before, _), gradient = whole
    lower = jax.tree.map(lambda x, g: x - 1e-4 * g, params, gradient)
    (after, _), _ = run(lower, rows)
    assert np.isfinite(before) and after < before


def test_what_it_cannot_train_is_refused():
    UniMol().check(SPEC, ConformerData())
    with pytest.raises(UserError, match="PairTransformerSpec"):
        UniMol().check(dataclasses.replace(SPEC, geometry=False), ConformerData())
    for changes, field in ((dict(noise=-1.0), "noise"), (dict(rate=0.0), "rate")):
        with pytest.raises(UserError, match=rf"objective\.{field} is"):
            UniMol(**changes).build(VOCABULARY)
