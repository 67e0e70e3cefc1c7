"""Settings of every test: shapes checked, eight simulated devices, no accelerator."""

import os

os.environ["BIOFM_CHECK_TYPES"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"

from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--update-goldens", action="store_true", help="rewrite tests/goldens from the code"
    )


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
