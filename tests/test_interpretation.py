import json

import pytest

from biofm_jax import cli
from biofm_jax.interpret.records import read_interpretations

PROTEIN = "random:experiments/computational_biology/esm2_masked.py:smoke"
MOLECULE = "random:experiments/drug_discovery/smiles_{}.py:smoke"
SEQUENCE = "MKTAYIAKQRQISFV"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def interpret(capsys, *arguments):
    code = cli.main(["interpret", *arguments, "--json", "True"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else err


def test_a_sequence_gets_every_picture_that_needs_no_task(capsys, tmp_path):
    code, rows = interpret(capsys, PROTEIN, "--text", SEQUENCE, "--out", str(tmp_path))
    assert code == 0
    kinds = [row["kind"] for row in rows]
    assert kinds == ["rollout", "contacts", "mutagenesis", "gradients"]
    found, problems = read_interpretations([tmp_path])
    assert len(found) == 4 and not problems
    changes = next(each for each in found if each.kind == "mutagenesis").arrays["changes"]
    assert changes.shape == (len(SEQUENCE), 20) and (changes == 0).sum() >= len(SEQUENCE)


def test_a_task_adds_its_probe_and_its_map(capsys, tmp_path):
    pytest.importorskip("rdkit")
    code, rows = interpret(
        capsys, MOLECULE.format("masked"), "--task", "quickstart/tpsa", "--out", str(tmp_path)
    )
    assert code == 0
    assert [(row["kind"], row["readout"]) for row in rows] == [
        ("rollout", "model"),
        ("gradients", "model"),
        ("gradients", "probe"),
        ("embeddings", "model"),
    ]
    found, _ = read_interpretations([tmp_path])
    points = next(each for each in found if each.kind == "embeddings")
    assert points.arrays["points"].shape == (500, 2) and "TPSA (Å²)" in points.unit


def test_a_dry_run_writes_nothing(capsys, tmp_path):
    out = tmp_path / "none"
    code, rows = interpret(
        capsys, PROTEIN, "--text", SEQUENCE, "--dry-run", "True", "--out", str(out)
    )
    assert code == 0 and len(rows) == 4 and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([PROTEIN], "nothing to explain: give --text SEQUENCE or --task TASK"),
        ([PROTEIN, "--text", "A" * 200], "has 202 tokens"),
        ([PROTEIN, "--text", "MK7"], "'MK7'"),
        ([PROTEIN, "--task", "quickstart/tpsa"], "is a task of molecule models"),
        ([PROTEIN, "--task", "flip_ss3"], "a label for every residue"),
        ([PROTEIN, "--text", "MK", "--show", "embeddings"], "give --task"),
        ([MOLECULE.format("masked"), "--text", "CCO", "--show", "mutagenesis"], "for sequences"),
        ([MOLECULE.format("masked"), "--text", "CCO", "--show", "contacts"], "are no residues"),
        (
            [MOLECULE.format("contrastive"), "--text", "CCO", "--show", "gradients"],
            "needs a language head",
        ),
        (["nowhere", "--text", "MK"], "is no run"),
    ],
)
def test_what_cannot_be_shown_says_why(capsys, tmp_path, arguments, words):
    code, err = interpret(capsys, *arguments, "--out", str(tmp_path))
    assert code == 2 and words in " ".join(err.split())
    assert not list(tmp_path.iterdir()) or "tokens" in words or "MK7" in words
