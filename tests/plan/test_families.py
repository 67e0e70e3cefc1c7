"""What a plan asks of a model it gets from any: every experiment's smoke variant."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from biofm_jax.data.imaging import ImageData
from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment, load_experiment
from biofm_jax.models.masked_autoencoder import MaskedAutoencoderSpec, PixelDecoder
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.api import Loss, Objective, ObjectiveSpec
from biofm_jax.objectives.contrastive import Contrastive
from biofm_jax.objectives.reconstruction import MaskedAutoencoder
from biofm_jax.plan.activations import guessed_temporaries, kept
from biofm_jax.plan.candidates import Candidates
from biofm_jax.plan.pairs import pairs_of
from biofm_jax.plan.planning import make_plan
from biofm_jax.plan.roofline import least_sent
from biofm_jax.plan.topology import parse_topology
from biofm_jax.plan.weights import weights
from biofm_jax.sweep.budget import step_tokens, token_flops
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.mesh import MeshSpec

ROOT = Path(__file__).parents[2] / "experiments"
FILES = sorted(path for path in ROOT.glob("*/*.py") if path.parent.name != "ablations")
PAIRS = ["smiles_contrastive", "gin_contrastive", "graph_smiles_contrastive"]


def smoke(name: str, rows: int = 8):
    base = load_experiment(f"{ROOT}/{name}.py:smoke")
    loop = dataclasses.replace(base.loop, batch_size=rows)
    return dataclasses.replace(base, loop=loop)


def parameters(experiment, sizes):
    model = experiment.model.build()
    params = jax.eval_shape(model.init, jax.random.key(0), experiment.shapes())
    return [*weights(sizes, params, model.axes(params))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_family_is_guessed_before_it_is_compiled(path):
    base = smoke(f"{path.parent.name}/{path.stem}")
    judge = Candidates(base, base.data.attended)
    found = judge.judged(base, parse_topology("v5e-8"))
    assert found.bytes > 0 and found.seconds > 0
    for policy in base.model.policies():
        changed = base.model.replaced(remat=policy)
        stacks = [*changed.stacks().values()] or [changed]
        assert {stack.remat for stack in stacks} == {changed.remat} == {policy}


def test_a_mesh_that_does_not_divide_the_parameters_is_no_candidate():
    base = load_experiment(f"{ROOT}/drug_discovery/txgnn_link_prediction.py")
    judge, topology = Candidates(base, base.data.attended), parse_topology("v5e-8")
    cut = dataclasses.replace(base, mesh=MeshSpec(data=4, tensor=2))
    with pytest.raises(UserError, match="does not divide vocab 47031"):
        judge.judged(cut, topology)
    meshes = [way.experiment.mesh for way in judge.all(topology)]
    assert meshes and all(mesh.tensor == 1 or mesh.fsdp > 1 for mesh in meshes)


def test_a_kept_layer_is_one_array_of_the_stream():
    base = smoke("computational_biology/esm2_masked")

    def of(layers: int, remat: str):
        model = dataclasses.replace(base.model, layers=layers, remat=remat)
        return kept(dataclasses.replace(base, model=model), "cpu")

    few, many, all_of_it = of(2, "full"), of(5, "full"), of(5, "none")
    row = base.data.max_tokens * base.model.width * 4
    assert (many.whole - few.whole, many.split - few.split) == (3 * row, 0)
    # Without it the feed-forward's hidden units are among them, which tensor parallelism cuts.
    assert all_of_it.whole > many.whole
    assert all_of_it.split - many.split >= 5 * base.data.max_tokens * base.model.hidden_width * 4


def test_tensor_parallelism_reduces_four_times_a_layer_and_six_with_a_source():
    one = smoke("computational_biology/esm2_masked")
    both = smoke("computational_biology/prott5_denoising")
    for base, reductions in (
        (one, 4 * one.model.layers),
        (both, 4 * both.model.encoder.layers + 6 * both.model.decoder.layers),
    ):
        stream = step_tokens(base) / 4 * base.model.width * 4
        sizes = (4, 1, 2, 1)
        found = least_sent(base, sizes, parameters(base, sizes))["tensor"]
        assert found == pytest.approx(2 * (1 / 2) * reductions * stream)


@pytest.mark.parametrize("name", PAIRS)
def test_whatever_compares_examples_is_counted(name):
    """Similarities of all slots and two gradients; of the embeddings one view travels."""
    base = smoke(f"drug_discovery/{name}")
    slots = base.shapes().examples.size
    stacks = [*base.model.stacks().values()] or [base.model]
    width, found = stacks[0].head.width, pairs_of(base)
    assert found.flops == 3 * 2 * slots**2 * width
    assert found.bytes == slots * width * 4
    assert found.chip_flops((4, 2, 1, 1)) == found.flops / 8
    assert pairs_of(smoke("drug_discovery/smiles_masked")).flops == 0


def test_both_towers_cost_by_their_own_tokens():
    base = smoke("drug_discovery/graph_smiles_contrastive")
    data, (graph, text) = base.data, base.model.stacks().values()
    assert data.pair_tokens == 2 * data.max_tokens
    first = graph.train_flops(20.0, pooled=data.segments / data.max_tokens)
    second = text.train_flops(40.0, 1.0, pooled=data.segments / data.pair_tokens)
    assert token_flops(base, 20.0) == pytest.approx(first + 2 * second)


def test_both_damaged_views_of_a_molecule_are_run():
    base = smoke("drug_discovery/gin_contrastive")
    once = dataclasses.replace(base, objective=Contrastive())
    assert token_flops(base, 20.0) == 2 * token_flops(once, 20.0)
    assert step_tokens(once) == 2 * step_tokens(base)


def test_a_whole_plan_of_facts_which_have_no_vocabulary(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path))
    base = dataclasses.replace(smoke("drug_discovery/txgnn_link_prediction"), mesh=MeshSpec(data=8))
    plan = make_plan(base, parse_topology("cpu:8"))
    assert plan.flops_ratio == pytest.approx(1.0, rel=0.02)
    assert plan.memory.fits and plan.tokens == 8 * base.data.max_tokens
    assert plan.attended == base.data.near


@dataclasses.dataclass(frozen=True)
class Small(ObjectiveSpec):
    """An objective that a plan has never seen: small pooled states."""

    head = "NoneType"

    def build(self, vocabulary):
        def loss(apply, params, state, batch, rng):
            pooled = apply(params, batch, rngs=rng).pooled
            return Loss((pooled**2).sum(), jnp.float32(pooled.shape[0]), {}, state)

        return Objective(init=lambda params: {}, loss=loss)


VIT = VisionSpec(layers=2, width=64, heads=4, image=(32, 32), patch=(8, 8))
MAE = MaskedAutoencoderSpec(
    encoder=dataclasses.replace(VIT, grid_positions="sincos"),
    decoder=PixelDecoder(layers=1, width=64, heads=4),
)


@pytest.mark.parametrize(
    ("model", "objective", "layers"), [(VIT, Small(), 2), (MAE, MaskedAutoencoder(), 3)]
)
def test_a_vision_model_needs_no_code_of_its_own(model, objective, layers, tmp_path, monkeypatch):
    """An image is a token of the batch, and a row of patches in the model."""
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path))
    base = Experiment(
        model=model,
        data=ImageData(image=(32, 32)),
        objective=objective,
        mesh=MeshSpec(data=4, tensor=2),
        loop=LoopSpec(batch_size=16),
    )
    plan = make_plan(base, parse_topology("cpu:8"))
    assert plan.tokens == 16 and base.model.places(base.shapes()) == 16 * 17
    assert plan.flops_ratio == pytest.approx(1.0, abs=0.15)
    stream = 16 / 4 * 17 * 64 * 4
    assert plan.least["tensor"] == pytest.approx(2 * (1 / 2) * 4 * layers * stream)
    # The encoder of a masked autoencoder sees a quarter of the patches; all are counted.
    assert 0.5 < plan.counts.sent()["tensor"] / plan.least["tensor"] < 1.5
    guess = guessed_temporaries(base, plan.sizes, parameters(base, plan.sizes), "cpu")
    assert 0.5 < guess / plan.memory.temporaries < 2.5
