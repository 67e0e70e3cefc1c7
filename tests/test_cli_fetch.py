import hashlib
import json

import pytest
from origin_server import corrupted, serving, status

from biofm_jax import cli
from biofm_jax.data import registry as module
from biofm_jax.data.registry import DataFile, DataSet, registry

OPEN, BOUND = b"id,label\n1,0\n", b"id,label\n2,1\n"


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("biofm_jax.train.compile_cache.enable_compile_cache", lambda: None)
    monkeypatch.delenv("BIOFM_DATA", raising=False)


@pytest.fixture
def biofm(capsys):
    """Runs `biofm data fetch`; returns the exit code, what it printed, and its complaints."""

    def run(*arguments):
        try:
            code = cli.main(["data", "fetch", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def origin(monkeypatch):
    """A registry of two sets, `toy` and the non-commercial `bound`, behind a local server."""
    with serving() as server:
        server.files |= {"/a/b/0123456789/toy.csv": OPEN, "/a/b/0123456789/bound.csv": BOUND}
        sets = {}
        for name, terms in (("toy", "open"), ("bound", "non-commercial")):
            content = server.files[f"/a/b/0123456789/{name}.csv"]
            found = (len(content), hashlib.sha256(content).hexdigest())
            url = server.url(f"/a/b/0123456789/{name}.csv")
            file = DataFile(f"drug/{name}/{name}.csv", *found, "as_is", url, *found)
            sets[name] = DataSet(name, f"the {name} set", "LIC-1", terms, "Cite 1", "", (file,))
        monkeypatch.setattr(module, "registry", lambda: sets)
        yield server


def test_all_sets_are_listed(biofm, tmp_path):
    code, printed, _ = biofm()
    assert code == 0 and all(name in printed for name in registry())
    assert "1.3 MB" in printed and "AFL-3.0" in printed and "(needs --accept)" in printed
    code, printed, _ = biofm("--json")
    rows = json.loads(printed)
    assert [row["name"] for row in rows] == list(registry()) and rows[0]["here"] is None
    assert {row["here"] for row in json.loads(biofm("--json", "--to", tmp_path)[1])} == {False}


def test_what_is_here_is_listed_as_here(biofm, origin, tmp_path):
    assert biofm("toy", "--to", tmp_path)[0] == 0
    rows = json.loads(biofm("--to", tmp_path, "--json", "True")[1])
    assert {row["name"]: row["here"] for row in rows} == {"toy": True, "bound": False}


def test_a_set_is_fetched_with_its_licence_shown(biofm, origin, tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_DATA", str(tmp_path))
    code, printed, told = biofm("toy")
    assert code == 0 and "fetched" in printed and str(tmp_path / "drug/toy/toy.csv") in printed
    assert "licence: LIC-1" in told and "cite:    Cite 1" in told
    assert (tmp_path / "drug/toy/toy.csv").read_bytes() == OPEN
    code, printed, _ = biofm("toy", "--json")
    assert code == 0 and len(origin.asked) == 1
    (row,) = json.loads(printed)
    assert row["status"] == "present" and row["bytes"] == len(OPEN) and row["name"] == "toy"


def test_bound_terms_are_refused_without_consent(biofm, origin, tmp_path):
    code, _, told = biofm("toy", "bound", "--to", tmp_path)
    assert code == 2 and "--accept" in told and "bound: LIC-1 (no commercial use)" in told
    assert not origin.asked and not (tmp_path / "drug").exists()  # before anything was fetched
    assert biofm("toy", "bound", "--to", tmp_path, "--accept")[0] == 0
    assert (tmp_path / "drug/bound/bound.csv").read_bytes() == BOUND
    assert biofm("bound", "--to", tmp_path)[0] == 0  # what is there needs no consent


def test_a_dry_run_writes_nothing(biofm, origin, tmp_path):
    code, printed, told = biofm("bound", "--to", tmp_path / "root", "--dry-run")
    assert code == 0 and "missing" in printed and "/a/b/0123456789/bound.csv" in printed
    assert "no commercial use (--accept)" in told
    assert not origin.asked and not (tmp_path / "root").exists()


@pytest.mark.parametrize(("bad", "words"), [(status(404), "404"), (corrupted, "found sha256")])
def test_one_failure_does_not_stop_the_rest(biofm, origin, tmp_path, bad, words):
    origin.plan = [bad]
    code, printed, told = biofm("toy", "bound", "--to", tmp_path, "--accept", "--json")
    assert code == 1 and "biofm data: toy: http" in told and words in told
    assert [row["status"] for row in json.loads(printed)] == ["missing", "fetched"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["flip_gb", "--to", "x"], "did you mean flip_gb1?"),
        (["flip_gb1"], "--to DIR, or set BIOFM_DATA"),
        (["dti_davis", "--to", "x"], "dti_davis: none stated"),
        (["flip_gb1", "--too", "x"], "--to"),
    ],
)
def test_misuse_exits_with_2(biofm, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, told = biofm(*arguments)
    assert code == 2 and words in printed + told and not (tmp_path / "x").exists()


def test_help_teaches(biofm):
    code, printed, _ = biofm("--help")
    assert code == 0
    assert all(flag in printed for flag in ("NAME", "--to DIR", "--accept", "--json", "--dry-run"))
