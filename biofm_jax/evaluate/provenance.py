"""What ran where, and what must be the same on every host of a run."""

import datetime
import platform
import shlex
import sys

import jax

from biofm_jax import specs
from biofm_jax.evaluate.results import code_commit, package_versions


def provenance() -> dict:
    """What ran where: command, commit, package versions, devices, processes, time."""
    return {
        "command": shlex.join(["biofm", *sys.argv[1:]]),
        **_code(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processes": jax.process_count(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def same_everywhere(experiment: dict) -> dict:
    """What must be the same on every host of a run, by name; no device is touched.

    Args:
        experiment: its JSON.
    """
    return specs.flatten(_code() | {"experiment": experiment})


def _code() -> dict:
    return {
        "commit": code_commit(),
        "versions": package_versions(),
        "python": platform.python_version(),
    }
