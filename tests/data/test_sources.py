import gzip
import json
import subprocess
import sys

import pytest

from biofm_jax.data import progress
from biofm_jax.data.protein import ProteinData
from biofm_jax.data.sources import cache_folder, open_prepared
from biofm_jax.errors import UserError


def test_prepared_records_are_read_by_index(fasta, tmp_path):
    prepared = ProteinData(path=str(fasta)).prepare(tmp_path / "out")
    assert (prepared.kind, prepared.count, prepared.bad) == ("protein", 300, 0)
    lines = fasta.read_text().splitlines()
    for record in prepared.read([299, 0, 17]):
        number = int(record.id[1:])
        assert record.line == 2 * number + 1
        assert record.text == lines[2 * number + 1]
    texts = [text for chunk in prepared.texts(chunk=7) for text in chunk]
    assert texts == lines[1::2]
    assert prepared.names([3, 1]) == ["p3", "p1"]


def test_folder_is_a_tfds_dataset_with_checksum(fasta, tmp_path):
    import hashlib

    import tensorflow_datasets as tfds

    ProteinData(path=str(fasta)).prepare(tmp_path / "out")
    builder = tfds.builder_from_directory(tmp_path / "out")
    assert str(builder.version) == "1.0.0"
    assert builder.info.splits["records"].num_examples == 300
    assert set(builder.info.features) == {"id", "line", "sequence"}
    assert builder.info.metadata["sha256"] == hashlib.sha256(fasta.read_bytes()).hexdigest()
    assert any("array_record" in path.name for path in (tmp_path / "out").iterdir())


def test_tensorflow_is_never_imported(fasta):
    code = (
        "import sys; from biofm_jax.data.protein import ProteinData;"
        "lazy = ('tensorflow_datasets', 'grain', 'rdkit');"
        "assert not [m for m in lazy if m in sys.modules];"
        f"data = ProteinData(path={str(fasta)!r}, max_tokens=128); store = data.open();"
        "next(data.batches(store, batch_size=2, seed=0));"
        "assert 'tensorflow_datasets' in sys.modules and 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_too_many_bad_records_stop_and_leave_only_the_list(tmp_path):
    path = tmp_path / "x.fasta"
    path.write_text(">a\nMK\n>b\nM1K\n>c\n")
    with pytest.raises(UserError) as error:
        ProteinData(path=str(path)).prepare(tmp_path / "out")
    message = str(error.value)
    assert "2 of 3 records are bad" in message
    assert f"{path}, line 3: '1' at residue 2 is no residue" in message
    assert "--data.tolerance 0.667" in message
    listed = (tmp_path / "out.bad_records.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in listed] == [3, 5]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.bad_records.jsonl", "x.fasta"]


def test_tolerated_bad_records_are_listed_in_the_folder(tmp_path):
    path = tmp_path / "x.fasta"
    path.write_text(">a\nMK\n>b\nM1K\n>c\nMM\n")
    prepared = ProteinData(path=str(path), tolerance=0.4).prepare(tmp_path / "out")
    assert (prepared.count, prepared.bad) == (2, 1)
    (line,) = (tmp_path / "out" / "bad_records.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "file": str(path),
        "line": 3,
        "reason": "'1' at residue 2 is no residue",
        "fix": "use one-letter residue codes",
    }


def test_cached_file_with_bad_records_still_asks_for_tolerance(tmp_path, cache):
    path = tmp_path / "x.fasta"
    path.write_text(">a\nMK\n>b\nM1K\n>c\nMM\n")
    with pytest.raises(UserError, match="1 of 3"):
        ProteinData(path=str(path)).open()
    assert len(ProteinData(path=str(path), tolerance=0.4).open()) == 2
    assert len(list((cache / "prepared").iterdir())) == 1  # the list of the stopped run is gone
    with pytest.raises(UserError, match=r"1 of 3 records are bad.*--data.tolerance 0.334"):
        ProteinData(path=str(path)).open()
    assert len(ProteinData(path=str(path), tolerance=0.334).open()) == 2


def test_file_with_headers_only_and_file_with_blank_lines(tmp_path):
    path = tmp_path / "x.fasta"
    path.write_text("\n\n")
    with pytest.raises(UserError, match="holds no records"):
        ProteinData(path=str(path), tolerance=0.9).open()
    path.write_text(">a\n>b\n")
    with pytest.raises(UserError, match="2 of 2 records are bad"):
        ProteinData(path=str(path), tolerance=0.9).open()


def test_killed_preparation_leaves_nothing_under_the_name(fasta, tmp_path):
    code = (
        "import os; from pathlib import Path; from biofm_jax.data.sources import prepare_records\n"
        "seen = []\n"
        "def clean(text):\n"
        "    seen.append(text)\n"
        "    return text if len(seen) < 200 else os._exit(9)\n"
        f"prepare_records('protein', Path({str(fasta)!r}), Path({str(tmp_path / 'out')!r}), clean)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert not (tmp_path / "out").exists()
    assert ProteinData(path=str(fasta)).prepare(tmp_path / "out").count == 300


def test_progress_shows_on_a_terminal_only(fasta, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LONG_BYTES", 0)
    monkeypatch.setattr(progress, "LONG_RECORDS", 0)
    ProteinData(path=str(fasta)).prepare(tmp_path / "quiet")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    packed = tmp_path / "x.fasta.gz"
    packed.write_bytes(gzip.compress(fasta.read_bytes()))
    assert len(ProteinData(path=str(packed)).open()) == 300
    captured = capsys.readouterr()
    assert "preparing x.fasta.gz" in captured.err and "tokenizing" in captured.err


def test_out_that_exists_and_folder_that_is_none(fasta, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        ProteinData(path=str(fasta)).prepare(tmp_path)
    with pytest.raises(UserError, match="not a prepared data set"):
        open_prepared(tmp_path)


def test_cache_goes_by_content_not_by_name(fasta, tmp_path):
    copy = tmp_path / "copy.fasta"
    copy.write_bytes(fasta.read_bytes())
    assert cache_folder("protein", copy) == cache_folder("protein", fasta)
    assert cache_folder("protein", copy) != cache_folder("protein", copy, "column")
    copy.write_text(">a\nMK\n")
    assert cache_folder("protein", copy) != cache_folder("protein", fasta)
