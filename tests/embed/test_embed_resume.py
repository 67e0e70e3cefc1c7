"""A job that is killed and started again writes the file of one that never stopped."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from biofm_jax import cli
from biofm_jax.embed import tables
from biofm_jax.train.lock import locked

ROOT = Path(__file__).parents[2]
MODEL = "random:experiments/computational_biology/esm2_masked.py:smoke"
SMALL = ("--part-letters", "2000", "--batch-tokens", "256")


@pytest.fixture(autouse=True)
def at_root(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fasta(tmp_path):
    rng = np.random.default_rng(0)
    letters = list("ACDEFGHIKLMNPQRSTVWY")
    texts = ["".join(rng.choice(letters, rng.integers(5, 200))) for _ in range(400)]
    path = tmp_path / "a.fasta"
    path.write_text("".join(f">p{i}\n{text}\n" for i, text in enumerate(texts)))
    return path


@pytest.fixture
def embed(capsys):
    def run(path, out, *options):
        code = cli.main(["embed", MODEL, str(path), str(out), *SMALL, *options, "--json", "True"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out)[0] if code == 0 else printed.err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "safetensors"])
def test_killed_and_started_again_it_writes_the_same_bytes(embed, fasta, tmp_path, ending):
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    command = [sys.executable, "-m", "biofm_jax.cli", "embed", MODEL, str(fasta), str(out), *SMALL]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    parts = tmp_path / f"out.{ending}.parts"
    until = time.monotonic() + 200
    while len(list(parts.glob("*.parquet"))) < 3:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not out.exists()
    left = len(list(parts.glob("*.parquet")))
    # A write that the kill cut short.
    (parts / f".{left:05}.parquet.1.tmp").write_bytes(b"PAR1")
    code, row = embed(fasta, out)
    assert code == 0 and row["parts_from_before"] == left < row["parts"]
    assert not parts.exists()
    assert embed(fasta, whole)[0] == 0
    assert out.read_bytes() == whole.read_bytes()
    code, row = embed(fasta, out)
    assert code == 0 and row["done"] == "before"


def stopped(embed, fasta, out, monkeypatch, after=2, options=()):
    """Parts of a job whose disk was full after some of them."""
    made = []
    write = tables.pq.ParquetWriter.write_table

    def full(self, table, *rest, **options):
        if len(made) == after:
            raise OSError(errno.ENOSPC, "No space left on device")
        made.append(table)
        return write(self, table, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tables.pq.ParquetWriter, "write_table", full)
        code, error = embed(fasta, out, *options)
    assert code == 2 and "no space left" in error and "finished parts are kept" in error
    assert not out.exists()


def test_a_full_disk_keeps_what_is_done(embed, fasta, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    code, row = embed(fasta, whole)
    assert code == 0
    for after, there in ((2, 2), (row["parts"] + 3, row["parts"])):
        stopped(embed, fasta, out, monkeypatch, after)  # while embedding, then while merging
        names = sorted(path.name for path in tmp_path.joinpath("out.parquet.parts").glob("[0-9]*"))
        assert names == [f"{i:05}.parquet" for i in range(there)]
        code, again = embed(fasta, out)
        assert code == 0 and again["parts_from_before"] == there
        assert out.read_bytes() == whole.read_bytes()
        out.unlink()


def test_parts_of_another_job_are_refused(embed, fasta, tmp_path, monkeypatch):
    out = tmp_path / "out.parquet"
    stopped(embed, fasta, out, monkeypatch)
    code, error = embed(fasta, out, "--pooling", "cls")
    assert code == 2 and "pooling: mean there, cls here" in error and "delete" in error
    code, error = embed(fasta, out, "--seed", "1")
    assert code == 2 and "model.weights" in error
    text = fasta.read_text()
    fasta.write_text(text + ">more\nMKV\n")
    code, error = embed(fasta, out)
    assert code == 2 and "input.sha256" in error
    fasta.write_text(text)
    (tmp_path / "out.parquet.parts" / "job.json").write_text("{")
    code, error = embed(fasta, out)
    assert code == 2 and "damaged; delete" in error


def test_a_lower_tolerance_is_heard_when_a_job_goes_on(embed, fasta, tmp_path, monkeypatch):
    fasta.write_text(fasta.read_text() + ">bad\nM1\n")
    out, tolerant = tmp_path / "out.parquet", ("--tolerance", "0.01")
    stopped(embed, fasta, out, monkeypatch, options=tolerant)
    code, error = embed(fasta, out)
    assert code == 2 and "1 of 401 records are bad" in error
    code, row = embed(fasta, out, *tolerant)
    assert code == 0 and (row["sequences"], row["bad"]) == (400, 1)
    assert row["parts_from_before"] == 2


def test_a_file_at_out_is_not_overwritten(embed, fasta, tmp_path):
    out = tmp_path / "out.parquet"
    out.write_text("mine")
    code, error = embed(fasta, out)
    assert code == 2 and "no whole file of `biofm embed`" in error and out.read_text() == "mine"
    out.unlink()
    assert embed(fasta, out)[0] == 0
    code, error = embed(fasta, out, "--dtype", "float16")
    assert code == 2 and "exists already" in error and "dtype: float32 there" in error


def test_two_jobs_do_not_write_the_same_parts(embed, fasta, tmp_path):
    with locked(tmp_path / "out.parquet.parts"):
        code, error = embed(fasta, tmp_path / "out.parquet")
    assert code == 2 and "another run is writing to" in error


def test_what_would_not_fit_is_refused_before_it_begins(embed, fasta, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    code, error = embed(fasta, tmp_path / "out.parquet")
    assert code == 2 and "GB are needed" in error
    assert not (tmp_path / "out.parquet.parts").exists()
