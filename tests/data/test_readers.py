import gzip
from pathlib import Path

import pytest

from biofm_jax.data.bad_records import BadRecords
from biofm_jax.data.readers import Record, read_records
from biofm_jax.errors import UserError


def read(tmp_path, name: str, content: bytes, kind="protein", **options):
    path = tmp_path / name
    path.write_bytes(content)
    bad = BadRecords(name)
    records = list(read_records(path, kind, bad, **options))
    return records, [(record.line, record.reason) for record in bad.records]


def test_fasta(tmp_path):
    content = b">a first\nMKT\nAYI\n\n>b\nMMM\n"
    records, bad = read(tmp_path, "x.fasta", content)
    assert records == [Record(1, "a", "MKTAYI"), Record(5, "b", "MMM")]
    assert not bad


@pytest.mark.parametrize("name", ["x.fa.gz", "x.fasta"])
def test_gzip_is_known_by_content(tmp_path, name):
    records, _ = read(tmp_path, name, gzip.compress(b">a\nMKT\n"))
    assert records == [Record(1, "a", "MKT")]


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    records, bad = read(tmp_path, "x.fasta", b"\xef\xbb\xbf>a b\r\nMKT\r\nAY\r\n>c\r\nMM\r\n")
    assert [(r.id, r.text) for r in records] == [("a", "MKTAY"), ("c", "MM")]
    assert not bad
    records, bad = read(tmp_path, "x.csv", b"id,sequence\r\na,MKT\r\n")
    assert records == [Record(2, "a", "MKT")]


def test_header_without_sequence_is_named(tmp_path):
    records, bad = read(tmp_path, "x.fasta", b">a\n>b\nMK\n>c\n")
    assert [r.id for r in records] == ["b"]
    assert bad == [(1, "header 'a' without a sequence"), (4, "header 'c' without a sequence")]


def test_sequence_before_the_first_header_is_named_once(tmp_path):
    records, bad = read(tmp_path, "x.fasta", b"MKT\nAAA\n>b\nMK\n")
    assert [(r.id, r.text) for r in records] == [("b", "MK")]
    assert bad == [(1, "sequence before the first header")]


def test_not_utf8_spoils_only_its_record(tmp_path):
    records, bad = read(tmp_path, "x.fasta", b">a\nMK\xff\nMM\n>b\nMK\n")
    assert [r.id for r in records] == ["b"]
    assert bad == [(2, "the line is not UTF-8")]
    records, bad = read(tmp_path, "x.csv", b"sequence\nM\xff\nMK\n")
    assert [r.text for r in records] == ["MK"] and bad == [(2, "the line is not UTF-8")]
    records, bad = read(tmp_path, "x.smi", b"C\xff\nCC\n", "molecule")
    assert [r.text for r in records] == ["CC"] and bad == [(1, "the line is not UTF-8")]


def test_duplicated_ids_keep_the_first(tmp_path):
    records, bad = read(tmp_path, "x.csv", b"id,sequence\na,MK\nb,MM\na,KK\n")
    assert [r.text for r in records] == ["MK", "MM"]
    assert bad == [(4, "id 'a' stands already on line 2")]


def test_table_rows_that_cannot_be_used(tmp_path):
    content = b'name,sequence\nx,MK\n\ny\nz,\nw,"M\nK"\n'
    records, bad = read(tmp_path, "x.csv", content)
    assert [(r.line, r.id) for r in records] == [(2, "2"), (6, "6")]
    assert bad == [
        (3, "empty line"),
        (4, "1 columns where the header has 2"),
        (5, "column 'sequence' is blank"),
    ]


def test_columns_by_name_and_by_default(tmp_path):
    content = b"Entry\tMutated_Sequence\tother\nQ1\tMK\tAA\n"
    assert read(tmp_path, "x.tsv", content)[0] == [Record(2, "Q1", "MK")]
    assert read(tmp_path, "x.tsv", content, column="other")[0] == [Record(2, "Q1", "AA")]
    picked = read(tmp_path, "x.tsv", content, id_column="other")[0]
    assert picked == [Record(2, "AA", "MK")]


def test_smiles_lines(tmp_path):
    records, bad = read(tmp_path, "x.smi", b"smiles name\nCCO\tethanol\n\nCC\n", "molecule")
    assert records == [Record(2, "ethanol", "CCO"), Record(4, "4", "CC")]
    assert bad == [(3, "empty line")]


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("x.fasta", b"", ["x.fasta", "empty"]),
        ("x.fasta.gz", gzip.compress(b">a\n" + bytes(range(65, 90)) * 99)[:-12], ["cut short"]),
        ("x.fasta", "\ufeff>a\nMK\n".encode("utf-16-le"), ["UTF-16"]),
        ("x.csv", b"a,b\nx,y\n", ["line 1", "'sequence'", "a, b", "--data.column"]),
        ("x.pdf", b"x", [".pdf", "rename"]),
        ("x.smi", b"C", ["unknown ending '.smi' for protein"]),
    ],
    ids=["empty", "cut short", "utf-16", "no column", "ending", "kind"],
)
def test_files_that_cannot_be_read(tmp_path, name, content, words):
    with pytest.raises(UserError) as error:
        read(tmp_path, name, content)
    assert str(tmp_path / name) in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_missing_file():
    with pytest.raises(UserError, match="no such file"):
        list(read_records(Path("/none.fasta"), "protein", BadRecords("")))
