"""Two plans for TPUs that are not here, by the compiler that they would be run with."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from biofm_jax.plan.topology import parse_topology
from biofm_jax.train.mesh import MeshSpec

ROOT = Path(__file__).parents[2]
ESM2 = "experiments/computational_biology/esm2_masked.py"
SMALL = ("--model.layers", "4", "--model.width", "256", "--model.heads", "4")


@pytest.fixture(autouse=True)
def libtpu():
    if importlib.util.find_spec("libtpu") is None:
        reason = "libtpu is not installed; pip install 'biofm_jax[plan]'"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def plan(tmp_path, *arguments) -> tuple[int, dict, str]:
    """Runs the command in a process of its own: exit code, the plan, what it told meanwhile."""
    done = subprocess.run(
        [sys.executable, "-m", "biofm_jax.cli", "plan", *arguments, "--json", "True"],
        cwd=ROOT,
        env=os.environ | {"BIOFM_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout)[0], done.stderr


@pytest.mark.slow
def test_masked_proteins_on_eight_v5e(tmp_path):
    code, found, told = plan(
        tmp_path, f"{ESM2}:150M", *SMALL, "--topology", "v5e-8", "--mesh.data", "1",
        "--mesh.fsdp", "8", "--loop.batch_size", "16",
    )  # fmt: skip
    assert code == 0 and found["fits"] and "splash on tpu" in told
    # Splash computes nine products of t x t x d where the model has six, and skips nothing here.
    attention = 12 * 4 * 256 * 1024 * 16 * 1024
    assert found["flops_ratio"] == pytest.approx(1 + attention / 2 / found["model_flops"], rel=0.01)
    assert found["memory"]["aliased"] / found["memory"]["arguments"] > 0.98  # all but the batch
    # Three float32 a parameter on eight chips, and what a width of 32 a chip is padded with.
    assert 1 < found["memory"]["arguments"] / (12 * found["parameters"] / 8) < 1.5
    sent, least = found["sent_bytes"]["fsdp"], found["least_sent_bytes"]["fsdp"]
    assert 0.95 < sent / least < 1.3
    assert not any("all-to-all" in one["kind"] for one in found["collectives"])
    assert found["time"]["overlapped"]["mfu"] <= 1.0


@pytest.mark.slow
def test_one_that_does_not_fit_names_a_way_that_does(tmp_path):
    code, found, told = plan(
        tmp_path, f"{ESM2}:150M", *SMALL, "--topology", "v5e-8", "--loop.batch_size", "8192",
    )  # fmt: skip
    assert code == 1 and not found["fits"]
    assert "more than the usable 14.4 GiB" in found["advice"][0]
    assert "the nearest that fits, compiled:" in found["advice"][1]
    assert "--loop.accumulate" in found["advice"][1] and "trying v5e:2x4" in told


def test_one_dimension_of_a_torus_serves_two_axes_of_a_mesh():
    devices = parse_topology("v6e-16").devices()
    mesh = MeshSpec(data=2, fsdp=8).build(devices)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 8, "tensor": 1, "context": 1}
    assert {device.id for device in mesh.devices.flat} == {device.id for device in devices}
