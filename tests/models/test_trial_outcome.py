import dataclasses

import jax
import numpy as np
import pytest
from toy_trials import rows, write_top

from biofm_jax.data.icd10 import Hierarchy
from biofm_jax.data.trial import read_top
from biofm_jax.data.trial_batches import TrialData
from biofm_jax.errors import UserError
from biofm_jax.models.code_attention import code_attention, init_code_attention
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.interaction_graph import (
    DEGREE,
    EDGES,
    NODES,
    dense,
    edge_gates,
    init_messages,
    messages,
)
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.trial_outcome import TrialOutcomeSpec

SPEC = TrialOutcomeSpec(
    nodes=20,
    width=8,
    molecule=dataclasses.replace(TrialOutcomeSpec().molecule, layers=1, width=8),
    criteria=TransformerSpec(vocabulary=69, layers=1, width=8, heads=2, head=None),
    highway=1,
    gate=4,
)
DATA = TrialData(max_tokens=32, sentence=8, segments=6, atoms=20, molecules=2, codes=3, words=64)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    path = write_top(tmp_path_factory.mktemp("t") / "t.csv", rows(4))
    trials = list(read_top(path)[0])
    trials[3] = dataclasses.replace(
        trials[3], smiles=(), codes=(), criteria=type(trials[3].criteria)()
    )
    return DATA.store(trials, Hierarchy.of(c for t in trials[:2] for c in t.codes)).take(
        np.arange(4)
    )


@pytest.fixture(scope="module")
def model():
    model = SPEC.build()
    params = jax.jit(model.init)(jax.random.key(0), None)
    return model, params, jax.jit(model.apply)


def test_code_attention_is_the_slow_form_of_gram():
    params = init_code_attention(jax.random.key(1), 6, 4)
    paths = np.array([[[2, 1, 0], [4, 0, -1], [-1, -1, -1]]], np.int32)
    found, there = code_attention(params, paths)
    table, kernel, score = (np.asarray(params[k], np.float64) for k in ("table", "kernel", "score"))
    for slot, path in enumerate(([2, 1, 0], [4, 0])):
        own = table[path[0]]
        weights = np.array(
            [np.exp(score @ np.tanh(np.concatenate([own, table[j]]) @ kernel)) for j in path]
        )
        slow = (weights / weights.sum()) @ table[path]
        np.testing.assert_allclose(found[0, slot], slow, rtol=1e-5)
    assert there.tolist() == [[True, True, False]] and not np.any(found[0, 2])


def test_messages_are_the_slow_form_of_gated_convolutions():
    params = init_messages(jax.random.key(2), 4, 3, 2)
    states = np.random.default_rng(0).normal(size=(2, len(NODES), 4)).astype(np.float32)
    gates = np.asarray(edge_gates(params["gates"], states))
    slow = states.copy()
    for layer in ("layer_0", "layer_1"):
        mixed = slow.copy()
        for edge, (to, source) in enumerate(EDGES):
            mixed[:, to] += gates[:, edge, None] / DEGREE[to] * slow[:, source]
        slow = slow + np.maximum(np.asarray(dense(params[layer], mixed)), 0)
    np.testing.assert_allclose(messages(params, states), slow, rtol=1e-4, atol=1e-5)
    assert (gates > 0).all() and (gates < 1).all()


def test_the_graph_is_that_of_hint():
    assert len(NODES) == 13 and len(EDGES) == 42
    degree = dict(zip(NODES, DEGREE))
    assert degree["molecule"] == 8 and degree["pharmacokinetics"] == 6 and degree["prediction"] == 2
    assert {tuple(e) for e in EDGES.tolist()} == {tuple(e[::-1]) for e in EDGES.tolist()}


def rows_of(batch, index):
    return jax.tree.map(lambda x: x[np.array(index)], batch)


def test_a_trial_does_not_see_its_batch(model, batch):
    _, params, apply = model
    together = apply(params, batch).logits
    for i in range(4):
        alone = apply(params, rows_of(batch, [i] * 4)).logits
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-5, atol=1e-6)


def test_what_a_trial_lacks_is_a_learned_vector(model, batch):
    """It matters to the trials that lack it, and to no other. All gates and layers are learned."""
    built, params, _ = model
    part = {name: params[name] for name in ("missing", "messages")}
    gradient = jax.jit(jax.jacobian(lambda m: built.apply(params | m, batch).logits[:, 0]))(part)
    for name, found in gradient["missing"].items():
        # The third trial has a code of a chapter that the hierarchy does not know.
        lacking = [2, 3] if name == "disease" else [3]
        moved = np.abs(found).max(axis=1) > 0
        assert np.flatnonzero(moved).tolist() == lacking, name
    for leaf in jax.tree.leaves(gradient["messages"]):
        assert np.abs(leaf).max() > 0


def test_order_of_molecules_and_codes_does_not_count(model, batch):
    _, params, apply = model
    turned = dataclasses.replace(batch, codes=batch.codes[:, ::-1])
    np.testing.assert_allclose(
        apply(params, turned).logits, apply(params, batch).logits, rtol=1e-5, atol=1e-6
    )


def test_dropout_belongs_to_the_trial(model, batch):
    built, params, _ = model
    train = jax.jit(lambda batch, key: built.apply(params, batch, rngs=key, train=True).logits)
    whole = train(batch, jax.random.key(3))
    turned = train(rows_of(batch, [2, 0, 3, 1]), jax.random.key(3))
    np.testing.assert_allclose(whole[np.array([2, 0, 3, 1])], turned, rtol=1e-4, atol=1e-6)
    assert not np.allclose(whole, train(batch, jax.random.key(4)))


def test_molecules_alone_give_the_labels_of_the_admet_nodes(model, batch):
    _, params, apply = model
    found = apply(params, batch.molecules).logits
    assert found.shape == (4, 2, 15)
    # A molecule that was never packed with others has the same labels.
    moved = jax.tree.map(lambda x: x[[2, 0, 1, 3]], batch.molecules)
    np.testing.assert_allclose(apply(params, moved).logits[1], found[0], rtol=1e-5, atol=1e-6)


def test_axes_name_every_parameter(model):
    built, params, _ = model
    jax.tree.map(lambda leaf, names: len(names) == leaf.ndim or 1 / 0, params, built.axes(params))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"width": 0}, "model.width is 0"),
        ({"dropout": 1.0}, "model.dropout in"),
        ({"admet": (1, 2)}, "numbers of five nodes"),
        ({"molecule": GraphSpec()}, "model.molecule.head must be None"),
    ],
)
def test_impossible_specs_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SPEC, **change).build()
