"""`biofm generate` from sources: an encoder-decoder reads a text and writes another."""

import csv
import json

import jax
import numpy as np
import pytest
from published_files import PROTT5, sentencepiece, write

from biofm_jax import cli
from biofm_jax.adapt.prompts import read_prompts, read_sources, rules
from biofm_jax.experiment import load_encoder
from biofm_jax.parity.rows import padded_batch

MODEL = "random:experiments/computational_biology/prott5_denoising.py:smoke"
FASTA = ">long\nMKTAYIAKQRQISFVKSHFSRQ\n>short\nGGA\n"
NEW = 6


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request, tmp_path):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))


def command(capsys, verb, *arguments):
    code = cli.main([verb, *map(str, arguments), "--json", "True"])
    out, err = capsys.readouterr()
    return code, json.loads(out)[0] if code == 0 else " ".join(err.split())


def table(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_a_file_of_sources_gives_one_sequence_each_as_without_a_cache(capsys, tmp_path):
    (tmp_path / "some.fasta").write_text(FASTA)
    out = tmp_path / "made.csv"
    options = ["--sources", tmp_path / "some.fasta", "--temperature", 0, "--max-tokens", NEW]
    code, report = command(capsys, "generate", MODEL, out, *options)
    assert code == 0 and report["sequences"] == 2
    rows = table(out)
    assert [row["id"] for row in rows] == [row["source"] for row in rows] == ["long", "short"]
    encoder = load_encoder(MODEL)
    model, params = encoder.spec.build(), encoder.params_for(0)
    run = jax.jit(lambda batch: jax.nn.log_softmax(model.apply(params, batch).logits[0]))
    banned, tokenizer = np.array(rules(encoder).banned), encoder.data.tokenizer()
    (prompt,) = read_prompts(encoder, [""])
    for row, text in zip(rows, FASTA.split("\n")[1::2], strict=True):
        (source,), written, total = read_sources(encoder, [text]), list(prompt), 0.0
        source = padded_batch(np.pad(source, (0, 32 - len(source)), constant_values=1)[None])
        for _ in range(int(row["tokens"])):  # the whole row is read again for every token
            tokens = np.pad(written, (0, 8 - len(written)), constant_values=1)[None]
            scores = np.array(run(padded_batch(tokens.astype(np.int32)).replace(source=source)))
            allowed = scores[len(written) - 1].copy()
            allowed[banned] = -np.inf
            written.append(int(allowed.argmax()))
            total += scores[len(written) - 2, written[-1]]
        assert tokenizer.decode(np.array(written)) == row["text"]
        assert float(row["log_likelihood"]) == pytest.approx(total, rel=1e-4, abs=1e-3)
    before = out.read_bytes()
    assert command(capsys, "generate", MODEL, out, *options) == (0, report)
    (tmp_path / "some.fasta").write_text(FASTA + ">third\nMM\n")
    code, err = command(capsys, "generate", MODEL, out, *options)
    assert code == 2 and "sources: " in err and out.read_bytes() == before


def test_several_of_each_source_and_the_best_of_a_search(capsys, tmp_path):
    sources = ["--source", "MKT<mask>YI", "GG", "--max-tokens", NEW, "--prompt", "MK"]
    assert command(capsys, "generate", MODEL, tmp_path / "a.csv", "--n", 3, *sources)[0] == 0
    rows = table(tmp_path / "a.csv")
    assert [row["id"] for row in rows] == [f"source{s}_{n}" for s in (1, 2) for n in (1, 2, 3)]
    assert len({row["text"] for row in rows}) == 6
    assert all(row["text"].startswith("MK") for row in rows)
    assert command(capsys, "generate", MODEL, tmp_path / "b.jsonl", "--beams", 3, *sources)[0] == 0
    found = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == ["source1", "source2"]


def test_a_dry_run_counts_the_sources(capsys, tmp_path):
    options = ["--source", "MKT", "--max-tokens", NEW, "--dry-run", "True"]
    code, row = command(capsys, "generate", MODEL, tmp_path / "x.csv", *options)
    assert code == 0 and (row["longest_prompt"], row["longest_source"]) == (1, 5)
    assert not list(tmp_path.glob("x.csv*"))


@pytest.mark.parametrize("model, arguments, words", [
    (MODEL, (), "writes from a source: give --source TEXT or --sources FILE"),
    ("random:experiments/drug_discovery/smiles_next_token.py:smoke", ("--source", "CC"),
     "has no encoder to read sources"),
    (MODEL, ("--source", "MK7"), "'7' at residue 3 is no residue"),
    (MODEL, ("--source", "M7<mask>"), "source 1, 'M7<mask>': token 2 is unknown"),
    (MODEL, ("--sources", "none.fasta"), "none.fasta: no such file"),
    (MODEL, ("--source", "M", "--sources", "x.fasta"), "--sources FILE, not both"),
    (MODEL, ("--source", "M", "--prompt", "M", "K"), "give one --prompt, or none"),
    (MODEL, ("--source", "M", "--temperature", "0", "--n", "2"), "set --n 1"),
])  # fmt: skip
def test_bad_input_says_what_to_do(capsys, tmp_path, model, arguments, words):
    code, err = command(capsys, "generate", model, tmp_path / "x.csv", *arguments)
    assert code == 2 and words in err
    assert not list(tmp_path.glob("x.csv*"))


def test_an_imported_t5_writes_what_transformers_writes(capsys, tmp_path):
    import torch
    import transformers

    config = transformers.T5Config(
        vocab_size=len(PROTT5) + 100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        decoder_start_token_id=0, dropout_rate=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(parameter + 0.3 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "t5")
    write(tmp_path / "t5", spiece__model=sentencepiece(PROTT5, 2))
    code, row = command(
        capsys, "import", "t5", tmp_path / "t5", tmp_path / "model", "--modality", "protein"
    )
    assert code == 0, row
    out, texts = tmp_path / "made.csv", ("MKTAYIAKQR", "GG<extra_id_0>LV")
    options = ["--temperature", 0, "--max-tokens", NEW, "--source", *texts]
    code, said = command(capsys, "generate", tmp_path / "model", out, *options)
    assert code == 0, said
    encoder = load_encoder(str(tmp_path / "model"))
    assert [prompt.tolist() for prompt in read_prompts(encoder, [""])] == [[0]]
    tokens = encoder.data.tokenizer().vocabulary.tokens
    for row, source in zip(table(out), read_sources(encoder, texts), strict=True):
        assert tokens[source[-1]] == "</s>" and len(source) in (11, 6)
        with torch.no_grad():
            made = theirs.generate(
                torch.from_numpy(source[None].astype(np.int64)), do_sample=False, num_beams=1,
                max_new_tokens=NEW, suppress_tokens=list(rules(encoder).banned),
            )[0]  # fmt: skip
        assert encoder.data.tokenizer().decode(made.numpy()) == row["text"] != ""
