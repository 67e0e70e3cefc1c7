"""A tiny experiment of 60 proteins, and a stand-in for the training process."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

FILE = """
import dataclasses

from biofm_jax.data.protein import ProteinData
from biofm_jax.experiment import Experiment
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.objectives.next_token import NextToken
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

experiment = Experiment(
    model=TransformerSpec(vocabulary=33, layers=1, width=16, heads=2),
    data=ProteinData(path={fasta!r}, max_tokens=64, segments=4, holdout=0.2),
    objective=MaskedLM(rate=0.15),
    optimizer=OptimizerSpec(warmup=2),
    loop=LoopSpec(steps=4, batch_size=8, log_every=1, checkpoint_every=2),
)


def causal(base):
    model = dataclasses.replace(base.model, causal=True)
    return dataclasses.replace(base, model=model, objective=NextToken())


def smoke(base):
    return dataclasses.replace(base, loop=dataclasses.replace(base.loop, steps=2))


variants = {{
    "masked": lambda base: base,
    "causal": causal,
    "smoke": smoke,
    "wide": dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, width=32)),
}}
"""

# What a finished run leaves behind, and a line for each start; trouble comes by rate.
PRETEND = """
import json, os, sys, time
from pathlib import Path

folder, starts = Path(sys.argv[1]), sys.argv[2]
run = json.loads((folder / "experiment.json").read_text())
rate, steps, seed = run["objective"]["rate"], run["loop"]["steps"], run["loop"]["seed"]
with open(starts, "a") as file:
    file.write(folder.name + "\\n")
time.sleep(float(sys.argv[3]))
print("training")
if rate == 0.4:
    print("biofm train: it went wrong", file=sys.stderr)
    sys.exit(1)
if rate == 0.5:
    os.kill(os.getpid(), 9)
rows = [{"step": s, "loss": 1.0, "tokens_per_second": 10.0 ** min(s, 3)}
        for s in range(1, steps + 1)]
rows[-1]["validation_loss"] = rate + 0.01 * seed
(folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
(folder / "checkpoints" / str(steps)).mkdir(parents=True)
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    """The path of an experiment file with its data beside it."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    letters = list("ACDEFGHIKLMNPQRSTVWY")
    texts = ["".join(rng.choice(letters, rng.integers(5, 60))) for _ in range(60)]
    fasta = folder / "proteins.fasta"
    fasta.write_text("".join(f">p{i}\n{text}\n" for i, text in enumerate(texts)))
    (folder / "tiny.py").write_text(FILE.format(fasta=str(fasta)))
    return str(folder / "tiny.py")


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def surroundings(cache, monkeypatch):
    """One cache for all, no job array, and one device in child processes."""
    jax.device_count()  # this process has its eight before the flags change
    monkeypatch.setenv("BIOFM_CACHE", str(cache))
    quick = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    monkeypatch.setenv("XLA_FLAGS", quick)  # as in tests/conftest.py
    # Small programs too are compiled by the first child process alone.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """Training is a script that takes no time; returns a function that lists its starts."""
    starts = tmp_path / "starts.txt"

    def command(cell, seconds=0.0):
        return [sys.executable, "-c", PRETEND, str(cell.folder), str(starts), str(seconds)]

    monkeypatch.setattr("biofm_jax.sweep.processes.train_command", command)
    monkeypatch.setattr(
        "biofm_jax.sweep.command.check", lambda made, tasks: {n: {"parameters": 7} for n in made}
    )
    return lambda: starts.read_text().split() if starts.exists() else []
