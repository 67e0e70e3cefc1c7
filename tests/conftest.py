"""Settings of every test: shapes checked, eight simulated devices, no accelerator."""

import os

os.environ["BIOFM_CHECK_TYPES"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"
# Compiling is most of what tests do, and unoptimised machine code is there in a third of the time.
# XLA's passes over a program are the same. A level that is set already stays, and tests that start
# processes as a user does empty XLA_FLAGS.
if "xla_backend_optimization_level" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import gc
from pathlib import Path

import jax
import pytest

MOST = 3 << 30  # bytes of one worker


def pytest_addoption(parser):
    parser.addoption(
        "--update-goldens", action="store_true", help="rewrite tests/goldens from the code"
    )


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """What is imported stays, and tracing makes many objects: looking for garbage took a tenth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Compiled programs of earlier modules are dropped before they fill a small machine."""
    yield
    statm = Path("/proc/self/statm")
    if statm.exists() and int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > MOST:
        jax.clear_caches()


@pytest.fixture(scope="session")
def biofm_data() -> Path:
    """The root of the real data sets; its absence fails in CI and skips elsewhere."""
    root = os.environ.get("BIOFM_DATA", "")
    if root and Path(root).is_dir():
        return Path(root)
    reason = "BIOFM_DATA does not name a folder of data sets"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
