import dataclasses

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from toy_batches import compiled_once
from toy_graph import EACH, GROUPS, toy_graph

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.link_prediction import (
    LinkModel,
    LinkTuning,
    Prototypes,
    disease_profiles,
    link_adapter,
    score_pairs,
)
from biofm_jax.data.knowledge_graph import answers_removed
from biofm_jax.data.links import LinkData
from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment, train
from biofm_jax.models.relational import RelationalSpec
from biofm_jax.objectives.link_prediction import LinkPrediction
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec

GRAPH = toy_graph()
REST = answers_removed(GRAPH, "Compound", "Disease")
N = GROUPS * EACH
SPEC = RelationalSpec(nodes=len(GRAPH.ids), relations=len(GRAPH.relations), width=16, bases=4)
SMALL = LinkModel(SPEC, LinkData(near=6, far=6))
OPTIMIZER = OptimizerSpec(learning_rate=1e-2, warmup=5)
TUNING = LinkTuning(OPTIMIZER, LoopSpec(steps=40, batch_size=32))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph") / "toy"
    GRAPH.save(folder)
    return Experiment(
        model=SPEC,
        data=LinkData(path=str(folder), near=6, far=6, answers=("Compound", "Disease")),
        objective=LinkPrediction(),
        optimizer=OPTIMIZER,
        loop=LoopSpec(steps=60, batch_size=64, log_every=10, checkpoint_every=30),
    )


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def pretrained(experiment, tmp_path_factory):
    return train(experiment, tmp_path_factory.mktemp("kg") / "run", show=False)


def test_the_one_trainer_learns_the_facts(pretrained):
    first, last = pretrained.rows[0], pretrained.rows[-1]
    assert last["loss"] < 0.75 * first["loss"] and last["ranked"] > 0.85
    assert pretrained.compilations == 1


def test_a_run_that_stopped_goes_on_bitwise_on_any_mesh(experiment, tmp_path):
    # The schedule knows the length of the run: a constant one is the same for both.
    flat = OptimizerSpec(schedule="constant", warmup=1)
    data = dataclasses.replace(experiment.data, holdout=0.1)
    loop = dataclasses.replace(experiment.loop, steps=4, checkpoint_every=2, eval_every=2)
    whole = dataclasses.replace(experiment, data=data, loop=loop, optimizer=flat)
    done = train(whole, tmp_path / "whole", show=False)
    assert "validation_loss" in done.rows[-1]
    short = dataclasses.replace(whole, loop=dataclasses.replace(loop, steps=2))
    train(short, tmp_path / "cut", show=False)
    again = train(whole, tmp_path / "cut", show=False)
    assert again.resumed_from == 2
    jax.tree.map(np.testing.assert_array_equal, again.state.params, done.state.params)
    cut = dataclasses.replace(whole, mesh=MeshSpec(data=2, fsdp=2, tensor=2))
    other = train(cut, tmp_path / "mesh", show=False)
    assert other.rows[-1]["loss"] == pytest.approx(done.rows[-1]["loss"], rel=1e-5)


def test_a_model_of_another_graph_is_refused(experiment, tmp_path):
    larger = dataclasses.replace(experiment, model=dataclasses.replace(SPEC, nodes=99))
    with pytest.raises(UserError, match=r"99 nodes .* set --model\.nodes 72 --model\.relations 5"):
        train(larger, tmp_path / "run", show=False)


def labelled(pairs, truth):
    texts = tuple(f"{GRAPH.ids[h]} {GRAPH.ids[t]}" for h, t in pairs)
    return Labelled(texts, texts, np.array([[float(x)] for x in truth]))


def test_held_out_diseases_are_ranked_by_what_they_share(pretrained):
    """Six diseases without a training drug, known by their genes alone."""
    treats = {(h, t) for h, r, t in GRAPH.triples.tolist() if r == GRAPH.relation("CtD")}
    pairs = [(h, t) for h in range(N) for t in range(N, 2 * N)]
    cold = {N + 3, N + 9, N + 15, N + 21}
    train, test = (
        labelled(part, [pair in treats for pair in part])
        for part in (
            [p for p in pairs if p[1] not in cold],
            [p for p in pairs if p[1] in cold],
        )
    )
    params = jax.device_get(pretrained.state.params)
    adapter = link_adapter(SMALL, REST, "CtD", TUNING, lambda seed: params)
    guess = adapter(train, train, test.without_targets(), 0)
    assert guess.shape == (len(test), 1) and 0 <= guess.min() <= guess.max() <= 1
    assert roc_auc_score(test.targets[:, 0], guess[:, 0]) > 0.75
    np.testing.assert_array_equal(guess, adapter(train, train, test.without_targets(), 0))


def test_answers_in_the_graph_are_refused():
    with pytest.raises(UserError, match="they are the answers"):
        link_adapter(SMALL, GRAPH, "CtD", TUNING, lambda seed: None)


def test_every_drug_is_scored_for_every_disease(pretrained):
    params = jax.device_get(pretrained.state.params)
    found = score_pairs(SMALL, GRAPH, params, "CtD")
    assert found.scores.shape == (N, N) and found.diseases.tolist() == list(range(N, 2 * N))


def test_profiles_leave_the_drugs_out():
    diseases = GRAPH.of_type("Disease")
    profiles = disease_profiles(GRAPH, diseases, "Compound")
    genes = {(h, t) for h, r, t in GRAPH.triples.tolist() if r == GRAPH.relation("DaG")}
    assert profiles.sum() == len(genes)


def test_prototypes_by_hand():
    """A disease without drugs takes .9 of the others, one with many .2; the cold give nothing."""
    states = np.array([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
    profiles = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    mixed = Prototypes(count=1).mixed(states, profiles, np.array([0, 50, 0]))
    np.testing.assert_allclose(mixed[0], 0.1 * states[0] + 0.9 * states[1])
    np.testing.assert_allclose(mixed[1], states[1])  # no other has a drug
    same = Prototypes(count=0).mixed(states, profiles, np.array([0, 50, 0]))
    np.testing.assert_array_equal(same, states)
    both = Prototypes(count=2).mixed(states, profiles, np.array([0, 50, 50]))
    near = np.array([2**-0.5, 1.0]) / (1 + 2**-0.5)
    np.testing.assert_allclose(both[0], 0.1 * states[0] + 0.9 * near @ states[1:])
