import csv
import dataclasses
import json

import pytest

from biofm_jax import cli, generation
from biofm_jax.adapt.generated_files import PartFile, render
from biofm_jax.errors import UserError
from biofm_jax.generation import Generate, Generation

pytest.importorskip("rdkit")

MODEL = "random:experiments/drug_discovery/smiles_{}.py:smoke"
CAUSAL = MODEL.format("next_token")
PROTEIN = """
import dataclasses, runpy
from biofm_jax.objectives.next_token import NextToken
base = runpy.run_path("experiments/computational_biology/esm2_masked.py")["variants"]["smoke"]
base = base(None) if callable(base) else base
model = dataclasses.replace(base.model, causal=True, token_dropout=None)
experiment = dataclasses.replace(base, model=model, objective=NextToken())
"""


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request, tmp_path):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))


def command(capsys, *arguments):
    code = cli.main(["generate", *map(str, arguments), "--json", "True"])
    out, err = capsys.readouterr()
    return code, json.loads(out)[0] if code == 0 else " ".join(err.split())


def table(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_sequences_and_their_report_are_written(capsys, tmp_path):
    out = tmp_path / "some.csv"
    options = ["--n", 5, "--max-tokens", 6, "--prompt", "CC", "c1ccc", "--rows", 4]
    code, report = command(capsys, CAUSAL, out, *options)
    assert code == 0 and report["sequences"] == 10 and report["kind"] == "molecule"
    rows = table(out)
    assert [row["id"] for row in rows[:6]] == [f"prompt1_{i}" for i in range(1, 6)] + ["prompt2_1"]
    assert all(row["text"].startswith("CC") for row in rows[:5])
    assert all(row["text"].startswith("c1ccc") for row in rows[5:])
    assert all(1 <= int(row["tokens"]) <= 6 for row in rows)
    assert {row["stop"] for row in rows} <= {"eos", "max_tokens"}
    assert len({row["text"] for row in rows}) == 10
    content = json.loads((tmp_path / "some.csv.report.json").read_text())
    assert content["report"] == report and content["run"]["command"].startswith("biofm")
    assert [path.name for path in tmp_path.glob("*.part.*")] == []
    before = out.stat().st_mtime_ns
    assert command(capsys, CAUSAL, out, *options) == (0, report)
    assert out.stat().st_mtime_ns == before
    code, err = command(capsys, CAUSAL, out, *options, "--seed", 1)
    assert code == 2 and "made with other options" in err and "seed: 0 there, 1 here" in err


def test_a_run_that_was_killed_goes_on_with_the_same_result(tmp_path, monkeypatch):
    options = Generate(CAUSAL, tmp_path / "whole.jsonl", n=9, rows=2, max_tokens=5)
    Generation(options).run()
    broken = dataclasses.replace(options, out=tmp_path / "broken.jsonl")
    whole, made = generation.generate, []

    def dying(*arguments, **more):
        for batch in whole(*arguments, **more):
            if len(made) == 3:
                raise KeyboardInterrupt
            made.append(batch)
            yield batch

    monkeypatch.setattr(generation, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        Generation(broken).run()
    part = tmp_path / "broken.jsonl.part.jsonl"
    assert not broken.out.exists() and len(part.read_bytes().splitlines()) == 4
    with open(part, "ab") as file:
        file.write(b'[{"id": "7", "te')  # killed while it wrote
    with pytest.raises(UserError, match="seed: 0 there, 1 here"):
        Generation(dataclasses.replace(broken, seed=1)).run()
    starts = []

    def watched(*arguments, start, **more):
        starts.append(start)
        return whole(*arguments, start=start, **more)

    monkeypatch.setattr(generation, "generate", watched)
    Generation(broken).run()
    assert starts == [3] and not part.exists()
    assert broken.out.read_bytes() == options.out.read_bytes()


def test_a_search_gives_its_beams_best_first(capsys, tmp_path):
    out = tmp_path / "found.jsonl"
    options = ["--beams", 3, "--n", 2, "--max-tokens", 5, "--prompt", "CC", "N"]
    code, _ = command(capsys, CAUSAL, out, *options)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert code == 0
    assert [row["id"] for row in rows] == ["prompt1_1", "prompt1_2", "prompt2_1", "prompt2_2"]
    assert rows[0]["score"] > rows[1]["score"] and rows[2]["score"] > rows[3]["score"]


def test_proteins_from_a_file_of_prompts_and_a_file_of_known_ones(capsys, tmp_path):
    (tmp_path / "causal.py").write_text(PROTEIN)
    (tmp_path / "some.fasta").write_text(">a\nMKT\n>b\nGGAVL\n")
    out = tmp_path / "made.fasta"
    code, report = command(
        capsys, f"random:{tmp_path / 'causal.py'}", out, "--prompts", tmp_path / "some.fasta",
        "--known", tmp_path / "some.fasta", "--n", 3, "--max-tokens", 8, "--stop", "A",
    )  # fmt: skip
    assert code == 0, report
    assert report["known_length_median"] == 4 and report["composition_bits"] > 0
    lines = out.read_text().splitlines()
    assert [line.split()[0] for line in lines[::2]] == [
        f">{p}_{i}" for p in "ab" for i in (1, 2, 3)
    ]
    assert all(text.startswith("MKT") for text in lines[1:6:2])
    assert not any("A" in text for text in lines[1:6:2])
    assert report["novel"] is not None


def test_a_dry_run_writes_nothing(capsys, tmp_path):
    code, row = command(capsys, CAUSAL, tmp_path / "x.smi", "--n", 70, "--dry-run", "True")
    assert code == 0 and row["sequences"] == 70 and row["batches"] == 2
    assert row["max_tokens"] == 63 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        ("masked", (), "is an encoder"),
        ("contrastive", (), "is an encoder"),
        ("next_token", ("--top-p", "1.5"), "top_p is 1.5; it must be above 0 and at most 1"),
        ("next_token", ("--top-k", "-1"), "top_k is -1"),
        ("next_token", ("--temperature", "0"), "set --n 1"),
        ("next_token", ("--prompt", "C!"), "token 2 is unknown"),
        ("next_token", ("--prompt", "C" * 70), "a prompt has 71 tokens"),
        ("next_token", ("--prompt", "C", "--prompts", "x.smi"), "not both"),
        ("next_token", ("--prompts", "none.smi"), "none.smi: no such file"),
        ("next_token", ("--known", "none.smi"), "none.smi"),
        ("next_token", ("--stop", "Qq"), "'Qq' is not one token"),
        ("next_token", ("--beams", "2", "--n", "3"), "has no 3 sequences"),
        ("next_token", ("--beams", "2", "--top-k", "3"), "draws nothing"),
        ("next_token", ("--seed", "-1"), "seed is -1; it must be 0 to 4294967295"),
        ("next_token", ("--rows", "0"), "n and rows must be 1 or more"),
    ],
)
def test_bad_input_says_what_to_do(capsys, tmp_path, model, arguments, words):
    code, err = command(capsys, MODEL.format(model), tmp_path / "x.csv", *arguments)
    assert code == 2 and words in err
    assert not list(tmp_path.glob("x.csv*"))


def test_the_file_must_fit_the_modality(capsys, tmp_path):
    code, err = command(capsys, CAUSAL, tmp_path / "x.fasta")
    assert code == 2 and "ends in .csv, .jsonl, .smi for molecule" in err


def test_formats_leave_out_what_they_cannot_hold(tmp_path):
    rows = [
        dict(id="1", text="CC", tokens=3, prompt=""),
        dict(id="2", text="", tokens=1, prompt=""),
    ]
    assert render(rows, ".smi") == "CC 1\n"
    assert render(rows, ".fasta") == ">1 tokens=3\nCC\n"
    assert render(rows, ".csv").splitlines() == ["id,text,tokens,prompt", "1,CC,3,", "2,,1,"]
    part = PartFile(tmp_path / "part", {"a": 1})
    part.add(rows)
    assert PartFile(tmp_path / "part", {"a": 1}).batches == [rows]


def test_a_model_of_conditions_is_asked_by_its_prompts(capsys, tmp_path):
    model, out = "random:experiments/drug_discovery/molgpt_next_token.py:smoke", tmp_path / "x.csv"
    options = ["--n", 4, "--max-tokens", 6, "--prompt", "<logp=1>", "<logp=4>C"]
    code, report = command(capsys, model, out, *options)
    assert code == 0 and report["sequences"] == 8
    rows = table(out)
    assert [row["asked_logp"] for row in rows] == ["1.25"] * 4 + ["4.25"] * 4
    assert all(row["text"].startswith("C") for row in rows[4:])
    assert not any("<" in row["text"] for row in rows)
    if report["valid"]:
        assert report["asked_logp_molecules"] == report["valid"]
        assert (tmp_path / "x.csv.png").exists() and (tmp_path / "x.csv.conditions.png").exists()
    code, err = command(capsys, model, tmp_path / "y.csv", "--prompt", "<logp=40>")
    assert code == 2 and "-3 to 8, or any" in err
    code, err = command(capsys, CAUSAL, tmp_path / "y.csv", "--prompt", "<logp=4>")
    assert code == 2 and "unknown to the tokenizer" in err
