"""FASTA, CSV, TSV, SMILES, text and JSON-lines files, plain or gzip, to records."""

import contextlib
import csv
import dataclasses
import gzip
import itertools
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.molecule_files import (
    SDF_ENDINGS,
    SELFIES_COLUMN,
    SELFIES_ENDING,
    molfiles,
    selfies_to_smiles,
)
from biofm_jax.errors import UserError

# Columns taken when none is named, the first that matches, upper or lower case.
TEXT_COLUMNS = {
    "protein": ("sequence", "seq", "protein", "protein_sequence", "aa_seq", "mutated_sequence"),
    "molecule": ("smiles", "canonical_smiles", "mol", "molecule", "structure", SELFIES_COLUMN),
    "genome": ("sequence", "seq", "dna", "rna", "dna_sequence", "rna_sequence"),
    "notes": ("text", "note", "note_text", "report", "abstract", "sentence", "document"),
}
ID_COLUMNS = ("id", "accession", "entry", "identifier")

FASTA_ENDINGS = (".fasta", ".fa", ".faa", ".fas", ".fsa", ".fna", ".ffn")
FASTA_KINDS = ("protein", "genome")
TABLE_ENDINGS = {".csv": ",", ".tsv": "\t"}
SMILES_ENDINGS = (".smi", ".smiles", ".txt")
LINE_ENDING, JSON_ENDINGS = ".txt", (".jsonl", ".ndjson")

FORMATS = {
    "protein": FASTA_ENDINGS[:3],
    "genome": (".fasta", ".fa", ".fna"),
    "molecule": (".smi", SDF_ENDINGS[0], ".mol", SELFIES_ENDING),
    "notes": (LINE_ENDING, JSON_ENDINGS[0]),
}

NOT_UTF8 = ("the line is not UTF-8", "save the file as UTF-8")


@dataclasses.dataclass(frozen=True)
class Record:
    """One sequence, molecule or note as the file has it.

    Attributes:
        line: line of the file, from 1, at which the record starts.
        id: the file's own name of the record, or the line number.
        text: residues, bases, SMILES or words.
    """

    line: int
    id: str
    text: str


def read_records(
    path: Path,
    kind: str,
    bad: BadRecords,
    *,
    column: str = "",
    id_column: str = "",
    wrap: Callable[[BinaryIO], BinaryIO] = lambda raw: raw,
    unique: bool = True,
) -> Iterator[Record]:
    """Records of a file whose ending names its format; bad ones go to `bad`.

    Args:
        path: .csv .tsv; proteins and bases also .fasta .fa .faa .fna; molecules .smi .txt (SMILES
            and a name), .selfies (the same of SELFIES), .sdf .mol (2-D or 3-D); other kinds .txt
            (one text a line); notes also .jsonl (one object a line). Each also with .gz behind.
        kind: a key of `TEXT_COLUMNS`.
        bad: collects what cannot be read.
        column: column of a table, or field of the JSON objects, with the text; empty takes the
            first known name. A column `selfies` of molecules is read as such.
        id_column: column of a table, or data item of an SDF file, with the id; empty takes a known
            name, the title of an SDF molecule, or the line number.
        wrap: put around the raw file, for a progress bar by bytes.
        unique: a repeated id is bad; all ids are kept in memory to tell.

    Raises:
        UserError: the file is missing, empty, of unknown ending, cut short, not UTF-8 as a
            whole, or lacks the column.
    """
    ending = file_ending(path)
    with read_lines(path, wrap) as lines:
        known = (column,) if column else TEXT_COLUMNS[kind]
        if ending in FASTA_ENDINGS and kind in FASTA_KINDS:
            records = _fasta(lines, bad)
        elif ending in TABLE_ENDINGS:
            delimiter = TABLE_ENDINGS[ending]
            records = _table(path, lines, bad, delimiter, known, id_column)
        elif ending in SMILES_ENDINGS and kind == "molecule":
            records = _smiles(lines, bad)
        elif ending == SELFIES_ENDING and kind == "molecule":
            records = _of_selfies(_smiles(lines, bad, "selfies"), bad)
        elif ending in SDF_ENDINGS and kind == "molecule":
            records = _molfiles(lines, bad, id_column)
        elif ending == LINE_ENDING:
            records = _texts(lines, bad, blank_is_bad=kind != "notes")
        elif ending in JSON_ENDINGS and kind == "notes":
            records = _objects(lines, bad, known, id_column)
        else:
            formats = ", ".join((*FORMATS[kind], *TABLE_ENDINGS)) + ", each also .gz"
            raise UserError(f"{path}: unknown ending {ending!r} for {kind}; rename to {formats}")
        yield from _unique(records, bad) if unique else records


def file_ending(path: Path) -> str:
    """The ending that names the format, without .gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextlib.contextmanager
def read_lines(
    path: Path, wrap: Callable[[BinaryIO], BinaryIO] = lambda raw: raw
) -> Iterator[Iterator[tuple[int, str]]]:
    """Numbered lines of a UTF-8 text file, plain or gzip, without line ends of any system.

    Bytes that are not UTF-8 become U+FFFD; the parsers name the record that holds one as bad.

    Raises:
        UserError: the file is missing, empty, cut short, or UTF-16.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    with open(path, "rb") as raw:
        head = raw.peek(2)[:2]
        if not head:
            raise UserError(f"{path}: the file is empty; give one with records")
        if head in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"{path}: the file is UTF-16, not UTF-8; convert with iconv")
        wrapped = wrap(raw)
        # The content decides, so that a plain file named .gz is read as well.
        stream = gzip.GzipFile(fileobj=wrapped) if head == b"\x1f\x8b" else wrapped
        yield _decoded(path, stream)


def _decoded(path: Path, stream: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
            yield number, text.rstrip("\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path}: the gzip file is cut short or damaged after line {number}; fetch it again"
        ) from error


def _fasta(lines: Iterable[tuple[int, str]], bad: BadRecords) -> Iterator[Record]:
    start, name, parts, spoiled, stray = 0, "", [], 0, False
    for number, line in itertools.chain(lines, [(0, ">")]):
        line = line.strip()
        if line.startswith(">"):
            if spoiled:
                bad.add(spoiled, *NOT_UTF8)
            elif start and parts:
                yield Record(start, name, "".join("".join(parts).split()))
            elif start:
                fix = "add the sequence or drop the header"
                bad.add(start, f"header {name!r} without a sequence", fix)
            start, parts, spoiled = number, [], 0
            name = (line[1:].split() or [str(number)])[0]
        elif line and not line.startswith(";"):
            if not start and not stray:
                stray = True
                bad.add(number, "sequence before the first header", "add a line >name before it")
            parts.append(line)
        if "\ufffd" in line and not spoiled:
            spoiled = number


def _table(
    path: Path,
    lines: Iterable[tuple[int, str]],
    bad: BadRecords,
    delimiter: str,
    known: tuple[str, ...],
    id_column: str,
) -> Iterator[Record]:
    rows = table_rows(path, lines, bad, delimiter)
    _, header = next(rows)
    text_at = column_index(path, header, known)
    records = _rows(path, rows, bad, header, text_at, id_column)
    selfies = header[text_at].lower() == SELFIES_COLUMN
    yield from _of_selfies(records, bad) if selfies else records


def _rows(
    path: Path,
    rows: Iterable[tuple[int, list[str]]],
    bad: BadRecords,
    header: list[str],
    text_at: int,
    id_column: str,
) -> Iterator[Record]:
    if id_column:
        id_at = column_index(path, header, (id_column,))
    else:
        lower = [name.lower() for name in header]
        id_at = next((lower.index(name) for name in ID_COLUMNS if name in lower), -1)
    for number, row in rows:
        text = row[text_at].strip()
        if not text:
            bad.add(number, f"column {header[text_at]!r} is blank", "fill it or drop the row")
            continue
        yield Record(number, (row[id_at].strip() if id_at >= 0 else "") or str(number), text)


def table_rows(
    path: Path, lines: Iterable[tuple[int, str]], bad: BadRecords, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Numbered rows of a table, the header first; rows of another width go to `bad`.

    Raises:
        UserError: there is no header.
    """
    numbers: list[int] = []

    def feed() -> Iterator[str]:
        for number, line in lines:
            numbers.append(number)
            yield line + "\n"

    header: list[str] | None = None
    csv.field_size_limit(sys.maxsize)  # a chromosome is longer than the default of 131,072
    for row in csv.reader(feed(), delimiter=delimiter):
        first, numbers[:] = numbers[0], []
        if header is None:
            header = [name.strip() for name in row]
            yield first, header
        elif not row:
            bad.add(first, "empty line", "drop the line")
        elif any("\ufffd" in field for field in row):
            bad.add(first, *NOT_UTF8)
        elif len(row) != len(header):
            reason = f"{len(row)} columns where the header has {len(header)}"
            bad.add(first, reason, "quote the field that holds the separator")
        else:
            yield first, row
    if header is None:
        raise UserError(f"{path}: no header line; the first line must name the columns")


def column_index(
    path: Path,
    header: list[str],
    names: tuple[str, ...],
    option: str = "--data.column (--column of `biofm embed`)",
) -> int:
    """Index of the first of `names` in the header, upper or lower case; `option` names another.

    Raises:
        UserError: none is there; the message lists the columns that are.
    """
    lower = [name.lower() for name in header]
    for name in names:
        if name.lower() in lower:
            return lower.index(name.lower())
    wanted = " or ".join(repr(name) for name in names)
    raise UserError(
        f"{path}, line 1: no column {wanted}; it has {', '.join(header)}. "
        f"Name the right one with {option}"
    )


def _molfiles(
    lines: Iterable[tuple[int, str]], bad: BadRecords, id_column: str
) -> Iterator[Record]:
    for each in molfiles(lines, bad):
        name = each.fields.get(id_column, "") if id_column else each.title
        yield Record(each.line, name or str(each.line), each.smiles)


def _of_selfies(records: Iterable[Record], bad: BadRecords) -> Iterator[Record]:
    for record in records:
        try:
            yield dataclasses.replace(record, text=selfies_to_smiles(record.text))
        except BadText as error:
            bad.add(record.line, error.reason, error.fix)


def _smiles(
    lines: Iterable[tuple[int, str]], bad: BadRecords, header: str = "smiles"
) -> Iterator[Record]:
    for number, line in lines:
        fields = line.split(maxsplit=1)
        if not fields:
            bad.add(number, "empty line", "drop the line")
        elif "\ufffd" in line:
            bad.add(number, *NOT_UTF8)
        elif fields[0].lower() == header and number == 1:
            continue
        else:
            yield Record(number, fields[1].strip() if len(fields) > 1 else str(number), fields[0])


def _texts(
    lines: Iterable[tuple[int, str]], bad: BadRecords, blank_is_bad: bool
) -> Iterator[Record]:
    """One text a line."""
    for number, line in lines:
        if "\ufffd" in line:
            bad.add(number, *NOT_UTF8)
        elif line.strip():
            yield Record(number, str(number), line.strip())
        elif blank_is_bad:
            bad.add(number, "empty line", "drop the line")


def _objects(
    lines: Iterable[tuple[int, str]], bad: BadRecords, known: tuple[str, ...], id_column: str
) -> Iterator[Record]:
    """One JSON object a line, with the text and perhaps an id among its fields."""
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            bad.add(number, f"no JSON ({error})", "write one JSON object a line")
            continue
        row = {str(key).lower(): value for key, value in row.items()} if type(row) is dict else {}
        text = next((row[name.lower()] for name in known if name.lower() in row), None)
        names = (id_column.lower(),) if id_column else ID_COLUMNS
        name = next((str(row[name]) for name in names if name in row), str(number))
        if "\ufffd" in line:
            bad.add(number, *NOT_UTF8)
        elif not isinstance(text, str) or not text.strip():
            wanted = " or ".join(repr(name) for name in known)
            bad.add(number, f"no text in a field {wanted}", "name the field with --data.column")
        else:
            yield Record(number, name, text)


def _unique(records: Iterable[Record], bad: BadRecords) -> Iterator[Record]:
    seen: dict[str, int] = {}
    for record in records:
        first = seen.setdefault(record.id, record.line)
        if first == record.line:
            yield record
        else:
            reason = f"id {record.id!r} stands already on line {first}"
            bad.add(record.line, reason, "make ids unique or drop the row")
