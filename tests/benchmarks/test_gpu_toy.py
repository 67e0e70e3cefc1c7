"""The GPU benchmark at toy size on a CPU: it runs, and its rows add up."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PEER = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("gpu") / "toy.json"
    command = [sys.executable, "benchmarks/gpu.py", "--toy", "--out", str(out)]
    environment = os.environ | {"XLA_FLAGS": "", "BIOFM_CHECK_TYPES": "0"}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=300)
    assert out.with_suffix(".md").read_text().count("\n| 15 |") >= 2
    return json.loads(out.read_text())


def measured(content: dict, kind: str, contender: str) -> dict:
    found = [
        row["numbers"]
        for row in content["rows"]
        if (row["numbers"].get("kind"), row["numbers"].get("contender")) == (kind, contender)
    ]
    assert len(found) == 1, content["rows"]
    return found[0]


@pytest.mark.slow
def test_packed_rows_hold_more_tokens(content):
    packed, full = (measured(content, kind, "ours") for kind in ("packed", "full"))
    assert full["tokens"] == 4 * 128
    assert 0.9 * full["tokens"] < packed["tokens"] <= full["tokens"]
    assert packed["attended"] < full["attended"] == 128
    assert packed["number"] == pytest.approx(packed["tokens"] / packed["seconds"])
    # Random letters: the loss of knowing nothing but the alphabet.
    assert 2.5 < packed["loss"] < 4.5


@pytest.mark.slow
@pytest.mark.skipif(not PEER, reason="torch and transformers are not installed")
def test_transformers_pads_the_same_proteins(content):
    padded = measured(content, "padded", "transformers")
    assert padded["tokens"] < measured(content, "packed", "ours")["tokens"]
    assert 2.5 < padded["loss"] < 4.5
    assert sum(row["goal"] == 16 and row["met"] != "failed" for row in content["rows"]) == 2


@pytest.mark.slow
@pytest.mark.skipif(PEER, reason="torch and transformers are installed")
def test_a_missing_peer_is_a_row(content):
    failed = [row for row in content["rows"] if row["met"] == "failed"]
    assert len(failed) == 1 and "ModuleNotFoundError" in failed[0]["value"]


def test_flops_of_a_token(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY)
    from benchmarks import gpu

    # 24 D^2 weights-and-passes per layer become 72 D^2, by hand for 650M: L 33, D 1280.
    body, attention = 33 * 72 * 1280**2, 12 * 33 * 1280 * 500
    head = 6 * (1280**2 + 33 * 1280) * 0.15
    assert gpu.model_flops("650M", 500) == pytest.approx(body + attention + head)


def test_imports_no_data_libraries():
    code = (
        "import sys; import benchmarks.gpu_worker, benchmarks.gpu_data; "
        "import biofm_jax.train.step, biofm_jax.train.optimizer, biofm_jax.objectives.masked; "
        "print(*{'grain', 'tensorflow_datasets', 'tyro', 'rdkit', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
