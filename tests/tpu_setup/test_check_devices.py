"""check_devices.py: what it says is wrong, and two real processes started by launch.sh."""

import importlib.util
import os
import socket
import sys

import pytest
from pretended_cloud import ROOT, SCRIPTS

from biofm_jax.train.mesh import MeshSpec

FILE = SCRIPTS / "check_devices.py"
check_devices = importlib.util.module_from_spec(
    importlib.util.spec_from_file_location("check_devices", FILE)
)
sys.modules["check_devices"] = check_devices
check_devices.__loader__.exec_module(check_devices)


@pytest.mark.parametrize("axis", ["data", "fsdp", "tensor", "context"])
def test_the_all_reduce_is_checked_on_every_device(axis, monkeypatch):
    mesh = MeshSpec(**{"data": 2, axis: 4 if axis != "data" else 8}).build()
    right, rate = check_devices.all_reduce(mesh, axis, 1)
    assert right and rate > 0
    broken = check_devices.jax.lax.psum
    monkeypatch.setattr(
        check_devices.jax.lax, "psum", lambda x, name: broken(x, name) + (x == 1) * 0.5
    )
    assert not check_devices.all_reduce(mesh, axis, 1)[0]


def test_missing_devices_are_explained():
    assert check_devices.missing_devices(0, 4, 1) == check_devices.missing_devices(4, 4, 1) == []
    assert "--distributed True" in check_devices.missing_devices(16, 4, 1)[0]
    assert "some workers are missing" in check_devices.missing_devices(16, 12, 3)[0]


def test_an_accelerator_that_is_not_used(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    assert "biofm_jax[tpu]" in check_devices.unused_accelerators("cpu", ["/dev/accel0"])[0]
    assert "biofm_jax[tpu]" in check_devices.unused_accelerators("cpu", ["/dev/vfio/0"])[0]
    assert "biofm_jax[cuda]" in check_devices.unused_accelerators("cpu", ["/dev/nvidia0"])[0]
    assert check_devices.unused_accelerators("tpu", ["/dev/accel0"]) == []
    assert check_devices.unused_accelerators("cpu", ["/dev/null"]) == []


def test_slow_devices_are_named():
    names = ["a", "b", "c", "d"]
    assert check_devices.slow_devices("TPU v5 lite", [150, 151, 149, 150], names) == []
    (said,) = check_devices.slow_devices("TPU v5 lite", [150, 151, 80, 150], names)
    assert said.startswith("c is slow: 80 TFLOP/s where the median is 150")
    (said,) = check_devices.slow_devices("TPU v5p", [100] * 4, names)
    assert "100 of 459" in said
    assert check_devices.slow_devices("TPU v9", [1] * 4, names) == []


def test_a_mesh_that_does_not_fit(capsys):
    assert check_devices.main(["--mesh.fsdp", "3"]) == 2
    assert "cannot be laid over 8 devices" in capsys.readouterr().out


# check_devices.py where one of two machines has an accelerator that JAX was not told to leave.
UNUSED = """
import glob, os, runpy, sys
import jax
jax.config.update("jax_platforms", os.environ.pop("JAX_PLATFORMS"))
glob.glob = lambda pattern: ["/dev/accel0"] if os.environ["BIOFM_PROCESS_ID"] == "1" else []
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def launch(cloud, *check: str, code: int = 0) -> str:
    """What two processes of four devices print: `python CHECK...` started by launch.sh."""
    for home in cloud.up():
        (home / "biofm_jax").unlink()
        (home / "biofm_jax").symlink_to(ROOT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return cloud.run(
        "launch", "--", sys.executable, *check, "--distributed", "True",
        "--mesh.fsdp", "4", "--expect", "8", "--mebibytes", "1",
        code=code,
        BIOFM_COORDINATOR=f"127.0.0.1:{port}",
        BIOFM_PROCESSES="2",  # the stand-in gives each worker its BIOFM_PROCESS_ID
        JAX_PLATFORMS="cpu",
        JAX_CPU_COLLECTIVES_IMPLEMENTATION="gloo",
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
        PYTHONPATH=f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    ).stdout  # fmt: skip


def test_two_processes_started_by_launch(cloud):
    out = launch(cloud, "tpu_setup/check_devices.py")
    assert "[esm2-w-0] devices   8 x cpu, 2 process(es) of 4" in out
    assert "[esm2-w-0] mesh      data 2, fsdp 4, tensor 1, context 1" in out
    assert "all-reduce over data (2)" in out
    assert "all-reduce over fsdp (4)" in out
    assert "[esm2-w-0] all is well" in out


def test_the_machine_that_does_not_use_its_accelerator_says_so(cloud):
    out = launch(cloud, "-c", UNUSED, "tpu_setup/check_devices.py", code=1)
    (said,) = [line for line in out.splitlines() if "wrong: " in line]
    assert said.startswith("[esm2-w-1] wrong: ") and "install biofm_jax[tpu]" in said
    assert "[esm2-w-0] 1 thing(s) are wrong" in out and "all is well" not in out
