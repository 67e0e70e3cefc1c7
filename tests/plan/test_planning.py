"""A whole plan on eight simulated devices, and its arithmetic."""

import dataclasses
import json
from pathlib import Path

import pytest

from biofm_jax import cli
from biofm_jax.errors import UserError
from biofm_jax.experiment import load_experiment
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.plan import compiling, report
from biofm_jax.plan.candidates import Candidates, likely
from biofm_jax.plan.chips import CHIPS, GIB
from biofm_jax.plan.memory import Memory, refused_memory
from biofm_jax.plan.planning import make_plan
from biofm_jax.plan.roofline import roofline
from biofm_jax.plan.topology import parse_topology
from biofm_jax.train.mesh import MeshSpec

ROOT = Path(__file__).parents[2]
ESM2 = str(ROOT / "experiments/computational_biology/esm2_masked.py")
CONTRASTIVE = str(ROOT / "experiments/drug_discovery/smiles_contrastive.py")


def planned(mesh: MeshSpec):
    experiment = load_experiment(f"{ESM2}:smoke")
    loop = dataclasses.replace(experiment.loop, steps=7)
    return dataclasses.replace(experiment, mesh=mesh, loop=loop)


def compared(devices: int):
    """A contrastive step of 16 rows of 4 slots a device."""
    base = load_experiment(f"{CONTRASTIVE}:smoke")
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, segments=4, max_tokens=64),
        model=dataclasses.replace(base.model, layers=1),
        mesh=MeshSpec(data=devices),
        loop=dataclasses.replace(base.loop, batch_size=16 * devices),
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Twice: the second time it comes from the folder of plans."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIOFM_CACHE", str(tmp_path_factory.mktemp("cache")))
        experiment = planned(MeshSpec(data=2, fsdp=4))
        first = make_plan(experiment, parse_topology("cpu:8"))
        patch.setattr(compiling, "memory_of", None)  # no second compilation
        assert make_plan(experiment, parse_topology("cpu:8")) == first
    return first


def test_the_plan_of_a_tiny_model(plan):
    assert plan.parameters == 106_529
    assert (plan.tokens, plan.attended) == (8 * 128, 128)
    assert 1.0 < plan.flops_ratio < 1.1
    # Adam in float32: three numbers a parameter, over four shards but for what they do not divide.
    assert 12 * plan.parameters / 4 < plan.memory.arguments < 12 * plan.parameters / 3
    assert plan.memory.fits and plan.time is None
    sent = plan.counts.sent()
    assert set(sent) <= {"data", "fsdp", "data+fsdp"}
    total = sum(sent.values()) / sum(plan.least.values())
    assert 0.5 < total < 2.5  # a CPU has no reduce-scatter
    kinds = {one.kind for one in plan.counts.collectives}
    assert kinds == {"all-gather", "all-reduce"}


def test_the_least_that_fsdp_sends_by_hand(plan):
    layer = 4 * 64 * 64 + 2 * 64 * 256
    weights = 2 * layer + 64 * 64 + 33 * 64  # two layers, the head's transform, the embedding
    assert plan.least["fsdp"] == pytest.approx(3 * (3 / 4) * weights * 4, rel=0.02)
    # What no axis of the model's width cuts is summed over both.
    assert set(plan.least) == {"data", "fsdp", "data+fsdp"}


def test_a_contrastive_step_compares_its_rows_with_all(tmp_path, monkeypatch):
    """By the compiled program of as many rows a device, on two devices and on eight."""
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path))
    few, many = (make_plan(compared(n), parse_topology(f"cpu:{n}")) for n in (2, 8))
    slots = 16 * 4  # of a device, each compared with those of all, and the two gradients
    assert many.pair_flops == 4 * few.pair_flops == 3 * 2 * slots * 8 * slots * 128
    assert many.counts.flops - many.pair_flops == few.counts.flops - few.pair_flops
    embeddings = 8 * slots * 128 * 4
    least = {**many.least}["data"] - few.least["data"] * (7 / 8) / (1 / 2)
    assert least == pytest.approx(2 * (7 / 8) * (embeddings - embeddings / 4))


def test_a_plan_is_plain_json_and_says_that_it_is_an_estimate(plan):
    value = json.loads(json.dumps(plan.to_json()))
    assert value["estimate"] is True and value["fits"] is True
    assert value["mesh"] == {"data": 2, "fsdp": 4, "tensor": 1, "context": 1}
    assert value["chip_flops"] * 8 == pytest.approx(value["flops_ratio"] * value["model_flops"])


def test_speed_and_budget_follow_from_the_roofline(plan):
    time = roofline(CHIPS["v5e"], 197e12, 819e8, 0.0)
    assert (time.compute, time.memory, time.network) == pytest.approx((1.0, 0.1, 0.0))
    assert (time.best, time.sum) == pytest.approx((1.0, 1.1))
    timed = dataclasses.replace(
        plan, topology=parse_topology("v5e-8"), time=time, model_flops=4 * 197e12
    )
    best, worst = timed.cost()["overlapped"], timed.cost()["not_overlapped"]
    assert best["mfu"] == pytest.approx(0.5) and worst["mfu"] == pytest.approx(0.5 / 1.1)
    assert best["tokens_per_second"] == pytest.approx(1024)
    assert best["hours"] == pytest.approx(7 / 3600)
    assert best["chip_hours"] == pytest.approx(8 * 7 / 3600)
    assert "if nothing does" in report.summary(timed)["step"]


def test_one_that_does_not_fit_says_by_how_much(plan):
    memory = Memory(10 * GIB, GIB, 10 * GIB, 6 * GIB, 0, 16 * GIB)
    assert memory.total == 17 * GIB and not memory.fits
    short = dataclasses.replace(plan, memory=memory, counts=None)
    words = " ".join(report.advice(short))
    assert "does not fit: 17.0 GiB a chip is 2.60 GiB more than the usable 14.4 GiB" in words
    assert "--search" in words
    assert report.sent_rows(short) == []


@pytest.mark.parametrize(
    ("message", "temporaries"),
    [
        ("required for HLO temporaries (66.50G) exceeds available HBM (15.75G).", 66.5),
        ("Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.", 18.5),
        ("Internal: something else", None),
    ],
)
def test_what_the_compiler_says_when_it_refuses(message, temporaries):
    found = refused_memory(message, 2 * GIB, 16 * GIB)
    assert (found and found.temporaries / GIB) == temporaries
    assert found is None or found.arguments == 2 * GIB


def test_splash_leaves_out_the_blocks_that_nobody_sees():
    spec = TransformerSpec()
    assert spec.visited_share(1024) == 1.0
    causal = dataclasses.replace(spec, causal=True)
    assert causal.visited_share(2048) == (4 * 5 / 2) / 16
    # A window of one block: each block of queries and its neighbours.
    assert dataclasses.replace(spec, window=512).visited_share(2048) == (4 + 2 * 3) / 16


def test_candidates_are_allowed_and_the_likely_ones_are_guessed_to_fit():
    experiment = load_experiment(f"{ESM2}:3B")
    loop = dataclasses.replace(experiment.loop, batch_size=64)
    base = dataclasses.replace(experiment, loop=loop)
    topology = parse_topology("v5e-8")
    found = list(Candidates(base, 1024.0).all(topology))
    assert {way.experiment.model.remat for way in found} == {"none", "attention", "dots", "full"}
    for way in found:
        way.experiment.check(8)
    # Copies of the model on every chip do not fit, shards do.
    chosen = likely(iter(found))
    assert chosen and all(way.experiment.mesh.data < 8 for way in chosen)
    assert [w.seconds for w in chosen] == sorted(w.seconds for w in chosen)
    sharded = dataclasses.replace(base, mesh=MeshSpec(data=1, fsdp=8))
    one = next(w for w in found if w.experiment == sharded)
    assert one.flags(base) == "--mesh.data 1 --mesh.fsdp 8" and one.changes(base) == 0


def test_rows_that_no_mesh_divides_are_refused():
    from biofm_jax.plan.searching import search

    base = planned(MeshSpec())
    base = dataclasses.replace(base, loop=dataclasses.replace(base.loop, batch_size=7))
    with pytest.raises(UserError, match=r"set --loop\.batch_size to a multiple"):
        search(base, parse_topology("v5e-256"), 128.0, 1, print)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: biofm plan"),
        (["--topology", "v5e-8", "--mesh.fsdp", "3"], "cannot be laid over 8 devices"),
        (["--topology", "v5e:5x3"], "the nearest is v5e:4x4"),
        (["--topology", "v5e-8", "--mesh.tensor", "8"], "must divide model.heads 4"),
        (["--topology", "v5e-16"], "the nearest is 16"),
        (["--topolgy", "v5e-8"], "--topology"),
        (["--topology", "cpu:8", "--search", "True"], "name a slice, as --topology v5e-8"),
    ],
)
def test_misuse_of_the_verb(arguments, words, capsys):
    with_file = [f"{ESM2}:smoke", *arguments] if arguments else []
    try:
        code = cli.main(["plan", *with_file])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2 and words in " ".join((printed.out + printed.err).split())
