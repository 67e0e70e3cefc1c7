"""What ran where, and what must be the same on every host of a run."""

import datetime
import functools
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax

from biofm_jax import specs

PACKAGES = ("biofm_jax", "jax", "flax", "numpy", "scipy", "scikit-learn", "rdkit")


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


def package_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on, where installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def code_commit() -> str:
    """The commit of the code, with "+" if tracked files differ; empty outside a checkout.

    It is read once: call it before long work, since a checkout may change meanwhile.
    """
    here = Path(__file__).resolve().parents[2]
    try:
        commit = _git(here, "rev-parse", "HEAD")
        tracked = _git(here, "ls-files", "--error-unmatch", __file__)
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return (commit + ("+" if changed else "")) if tracked else ""


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
