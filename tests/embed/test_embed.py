"""Embeddings of a file: the numbers, the order of ids, both formats, bad input."""

import dataclasses
import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from toy_batches import TINY, compiled_once, parameters

from biofm_jax import cli
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.molecule_conformer import ConformerData
from biofm_jax.data.protein import ProteinData
from biofm_jax.embed.tables import read_embeddings, read_facts

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
ROW = 128
SPEC = dataclasses.replace(TINY, special=(0, 1, 2))  # the mean leaves out cls and eos
ENCODER = Encoder("toy", SPEC, ProteinData(max_tokens=ROW, segments=4), parameters(TINY))


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("biofm_jax.embed.command.load_encoder", lambda name: ENCODER)


def proteins(count=30, longest=120, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(LETTERS, rng.integers(1, longest))) for _ in range(count)]


def fasta(path, texts, names=None):
    names = names or [f"p{i}" for i in range(len(texts))]
    path.write_text("".join(f">{n} some protein\n{t}\n" for n, t in zip(names, texts)))
    return path


@pytest.fixture
def embed(capsys, tmp_path):
    """Runs the command; its file in memory, or what it complained about."""

    def run(path, *options, out="out.parquet", code=0):
        arguments = ["embed", "toy", str(path), str(tmp_path / out), *options, "--json", "True"]
        done = cli.main(arguments)
        printed = capsys.readouterr()
        assert done == code, printed.err
        if code:
            return printed.err
        if "--dry-run" in options:
            return json.loads(printed.out)[0]
        return read_embeddings(tmp_path / out)

    return run


def close(found, want):
    """Relative to the size of each vector."""
    assert np.shape(found) == np.shape(want)
    error = np.linalg.norm(np.subtract(found, want), axis=-1) / np.linalg.norm(want, axis=-1)
    assert error.max() < 1e-5


@pytest.mark.parametrize(("pooling", "layer"), [("mean", None), ("cls", None), ("mean", 1)])
def test_a_file_gets_what_features_gives(embed, tmp_path, pooling, layer):
    texts = proteins()
    options = ["--pooling", pooling, *([] if layer is None else ["--layers", str(layer)])]
    ids, columns = embed(fasta(tmp_path / "a.fasta", texts), *options)
    assert ids == [f"p{i}" for i in range(30)]
    (vectors,) = columns.values()
    assert vectors.dtype == np.float32
    close(vectors, ENCODER.features(0, pooling, layer)(texts))


def test_an_embedding_does_not_depend_on_batch_order_or_neighbours(embed, tmp_path):
    texts = proteins()
    _, columns = embed(fasta(tmp_path / "a.fasta", texts))
    want = columns["embedding"]
    order = np.random.default_rng(1).permutation(30)
    shuffled = fasta(tmp_path / "b.fasta", [texts[i] for i in order], [f"p{i}" for i in order])
    small = ["--batch-tokens", "128", "--part-letters", "300"]
    ids, columns = embed(shuffled, *small, out="b.parquet")
    assert ids == [f"p{i}" for i in order]
    close(columns["embedding"], want[order])
    for i in (0, 7):
        _, columns = embed(fasta(tmp_path / f"{i}.fasta", [texts[i]]), out=f"{i}.parquet")
        close(columns["embedding"], want[i : i + 1])
    mixed = [text for pair in zip(texts, proteins(seed=9)) for text in pair]
    _, columns = embed(fasta(tmp_path / "c.fasta", mixed), out="c.parquet")
    close(columns["embedding"][::2], want)
    assert np.abs(want[0] - want[1]).max() > 1e-2  # they do depend on the sequence


def test_layers_are_columns_and_tokens_are_lists(embed, tmp_path):
    texts = proteins(12)
    path = fasta(tmp_path / "a.fasta", texts)
    layers = ["--layers", "2", "0"]
    _, means = embed(path, *layers)
    assert list(means) == ["embedding_layer_2", "embedding_layer_0"]
    _, tokens = embed(path, *layers, "--pooling", "tokens", out="t.parquet")
    for layer, name in ((2, "embedding_layer_2"), (0, "embedding_layer_0")):
        close(means[name], ENCODER.features(0, "mean", layer)(texts))
        # One vector for each residue: neither cls nor eos, which the mean leaves out too.
        assert [len(each) for each in tokens[name]] == [len(text) for text in texts]
        close([each.mean(0) for each in tokens[name]], means[name])


@pytest.mark.parametrize("pooling", ["mean", "tokens"])
def test_both_formats_hold_the_same(embed, tmp_path, pooling):
    path = fasta(tmp_path / "a.fasta", proteins(9), [f"é{i}" for i in range(9)])
    options = ["--pooling", pooling, "--part-letters", "200"]
    for dtype in ("float32", "float16"):
        ids, want = embed(path, *options, "--dtype", dtype, out=f"{dtype}.parquet")
        same, found = embed(path, *options, "--dtype", dtype, out=f"{dtype}.safetensors")
        assert ids == same == [f"é{i}" for i in range(9)]
        for a, b in zip(found["embedding"], want["embedding"], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == dtype
    assert len(pq.ParquetFile(tmp_path / "float32.parquet").read_row_group(0)) < 9
    facts = read_facts(tmp_path / "float16.safetensors")
    assert facts == read_facts(tmp_path / "float16.parquet")
    assert facts["pooling"] == pooling and facts["dtype"] == "float16"
    assert facts["versions"]["jax"] and facts["model"]["name"] == "toy"


def windows_by_hand(text):
    tokens = ENCODER.tokenize([text])[0]
    count = -(-len(tokens) // ROW)
    ends = [i * len(tokens) // count for i in range(count + 1)]
    return [tokens[a:b] for a, b in itertools.pairwise(ends)]


def test_a_long_sequence_is_read_in_windows_or_cut(embed, tmp_path):
    short, long = proteins(1)[0], "".join(proteins(9, seed=3))[:301]
    path = fasta(tmp_path / "a.fasta", [short, long, short + "A"])
    _, means = embed(path)
    _, tokens = embed(path, "--pooling", "tokens", out="t.parquet")
    assert [len(each) for each in tokens["embedding"]] == [len(short), 301, len(short) + 1]
    windows = windows_by_hand(long)
    assert len(windows) == 3
    model = SPEC.build()
    states = []
    for window in windows:
        batch = one_row(window)
        states.append(np.asarray(model.apply(ENCODER.params, batch).hidden)[0])
    states = np.concatenate(states)
    close(tokens["embedding"][1], states[1:-1])
    counted = ~np.isin(ENCODER.tokenize([long])[0], SPEC.special)
    close(means["embedding"][1], states[counted].mean(0))
    _, cut = embed(path, "--long", "truncate", out="c.parquet")
    assert np.abs(cut["embedding"][1] - means["embedding"][1]).max() > 1e-3
    close(cut["embedding"][[0, 2]], means["embedding"][[0, 2]])
    # Its first 128 tokens are those of its first 127 residues, whose eos is cut off.
    _, kept = embed(
        fasta(tmp_path / "b.fasta", [long[: ROW - 1]]), "--long", "truncate", out="d.parquet"
    )
    close(cut["embedding"][1], kept["embedding"][0])
    error = embed(path, "--long", "error", out="f.parquet", code=2)
    assert "1 sequences are longer than 128" in error and "line 3, p1: 303 tokens" in error


def one_row(tokens):
    from biofm_jax.data.batch import Batch

    row = np.asarray(tokens, np.int32)[None]
    return Batch(row, np.ones_like(row), np.arange(row.size, dtype=np.int32)[None], row[:, :1] * 0)


def test_other_inputs(embed, tmp_path):
    texts = proteins(5)
    _, want = embed(fasta(tmp_path / "a.fasta", texts))
    table = tmp_path / "a.csv"
    table.write_text("name,letters\n" + "".join(f"x{i},{t}\n" for i, t in enumerate(texts)))
    assert "--column of `biofm embed`" in embed(table, out="b.parquet", code=2)
    columns = ["--column", "letters", "--id-column", "name"]
    ids, found = embed(table, *columns, out="b.parquet")
    assert ids == [f"x{i}" for i in range(5)]
    close(found["embedding"], want["embedding"])
    lines = tmp_path / "a.txt"
    lines.write_text("".join(f"{t}\n" for t in texts))
    ids, found = embed(lines, out="c.parquet")
    assert ids == ["1", "2", "3", "4", "5"]
    close(found["embedding"], want["embedding"])


def test_bad_records_are_named_and_may_be_left_out(embed, tmp_path):
    texts = proteins(20)
    texts[3], texts[11] = "MK*LV", "12345"
    names = [f"p{i}" for i in range(20)]
    names[7] = "p2"
    path = fasta(tmp_path / "a.fasta", texts, names)
    error = embed(path, code=2)
    for part in ("3 of 20", "line 7: a stop", "line 15: id 'p2' stands already on line 5"):
        assert part in error
    assert "--tolerance" in error and not (tmp_path / "out.parquet").exists()
    ids, columns = embed(path, "--tolerance", "0.2")
    good = [i for i in range(20) if i not in (3, 7, 11)]
    assert ids == [f"p{i}" for i in good]
    close(columns["embedding"], ENCODER.features(0)([texts[i] for i in good]))
    listed = (tmp_path / "out.parquet.bad_records.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in listed] == [7, 15, 23]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("", [], "the file is empty"),
        (">a\n>b\n", [], "2 of 2 records are bad"),
        (None, [], "No such file or directory; check the path"),
        (">a\nMKV\n", ["--layers", "9"], "layer 9 is not in 0 (the embeddings) to"),
        (">a\nMKV\n", ["--layers", "1", "1"], "each once"),
        (">a\nMKV\n", ["--batch-tokens", "0"], "--batch-tokens is 0"),
        (">a\nMKV\n", ["--tolerance", "2"], "--tolerance is 2.0"),
    ],
)
def test_what_cannot_be_done_is_named(embed, tmp_path, content, options, words):
    path = tmp_path / "a.fasta"
    if content is not None:
        path.write_text(content)
    assert words in embed(path, *options, code=2)
    assert not (tmp_path / "out.parquet").exists()


def test_the_ending_of_out_names_the_format(embed, tmp_path):
    path = fasta(tmp_path / "a.fasta", ["MKV"])
    assert "OUT ends in .parquet or .safetensors" in embed(path, out="out.csv", code=2)


def test_a_dry_run_counts_and_writes_nothing(embed, tmp_path):
    texts = proteins(40, longest=300)
    row = embed(fasta(tmp_path / "a.fasta", texts), "--dry-run", "True")
    lengths = np.array([len(text) + 2 for text in texts])
    assert row["sequences"] == 40 and row["tokens"] == lengths.sum()
    assert row["longest"] == lengths.max() and row["longer than 128"] == (lengths > 128).sum()
    assert 0 < row["fill"] <= 1 and row["bytes"] == 40 * SPEC.width * 4
    assert [each.name for each in tmp_path.iterdir()] == ["a.fasta"]


def test_a_model_of_molecules_in_space_is_refused(embed, tmp_path, monkeypatch):
    other = dataclasses.replace(ENCODER, data=ConformerData())
    monkeypatch.setattr("biofm_jax.embed.command.load_encoder", lambda name: other)
    said = embed(fasta(tmp_path / "some.fasta", proteins(1)), code=2)
    assert "atoms in space" in said and "biofm evaluate" in " ".join(said.split())
