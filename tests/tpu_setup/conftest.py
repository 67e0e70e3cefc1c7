"""A pretended cloud: a copy of the scripts in a small git repository, and `gcloud` recorded."""

import shutil
from pathlib import Path

import pytest
from pretended_cloud import SCRIPTS, Cloud, git


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """A repository with the scripts in its first commit."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(SCRIPTS, folder / "tpu_setup", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text("runs/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "scripts")
    return folder


@pytest.fixture
def cloud(tmp_path, checkout):
    made = Cloud(tmp_path / "cloud", checkout)
    yield made
    made.kill()
