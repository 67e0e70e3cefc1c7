"""What is in a folder, table or file of images: a reference, label, group and caption of each."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from biofm_jax.data.bad_records import BadRecords
from biofm_jax.data.image_folders import Cut, ImageRecord, members, of_patient, walk
from biofm_jax.data.pictures import Picture
from biofm_jax.data.readers import column_index, file_ending, read_lines, table_rows
from biofm_jax.errors import UserError

# Columns taken when none is named, the first that matches, upper or lower case.
FILE_COLUMNS = ("image", "file", "path", "filename", "file_name", "image_path", "image_id")
LABEL_COLUMNS = ("label", "class", "diagnosis", "target", "grade", "finding_labels")
GROUP_COLUMNS = ("group", "case_group", "case", "patient", "patient_id", "subject", "subject_id")
SPLIT_COLUMNS = ("split", "partition", "subset")
CAPTION_COLUMNS = ("caption", "text", "report", "findings", "impression", "description")

TABLES, LINES = {".csv": ",", ".tsv": "\t"}, (".jsonl", ".ndjson")
TABLE_ENDINGS = (*TABLES, *LINES)
LABELS = ("labels.csv", "captions.csv", "captions.jsonl")  # read where a folder holds one
FOLDERS = ("", "images")  # under the table's folder, where its files are looked for
MOST_WORDS = 1000  # of a caption; a longer one is a document


@dataclasses.dataclass(frozen=True)
class ImageColumns:
    """Columns of a table of images; an empty one takes the first known name."""

    file: str = ""
    label: str = ""
    group: str = ""
    caption: str = ""
    """One column, or several to be joined, such as `question+answer`."""


PLAIN = ImageColumns()
FLAT = Cut()


def read_image_records(
    path: Path,
    bad: BadRecords,
    columns: ImageColumns = PLAIN,
    *,
    captions: bool = False,
    cut: Cut = FLAT,
    other: Callable[[str], None] = lambda ending: None,
) -> list[ImageRecord]:
    """All images of a data set, in a fixed order.

    Args:
        path: a CSV, TSV or JSON-lines file that names image files; an NPZ file in MedMNIST's
            layout; a single image; or a folder. A folder with `labels.csv`, `captions.csv` or
            `captions.jsonl` is that table, another is walked, and the first folder under it is an
            image's label.
        bad: gets rows without an image file, captions that are blank or of over 1,000 words, and
            DICOM files that cannot be read or hold no image.
        columns: of a table.
        captions: whether each record must have one.
        cut: what becomes of volumes.
        other: is told the ending of each file of a folder that is no image.

    Raises:
        UserError: nothing is there, the table lacks a column, or a folder holds no image.
    """
    if path.is_dir():
        table = next((path / name for name in LABELS if (path / name).is_file()), None)
        if table is None:
            return walk(path, bad, cut, other)
        path = table
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if file_ending(path) in TABLE_ENDINGS:
        bad.file, patients = str(path), {}
        rows = [of_patient(row, patients) for row in _listed(path, bad, columns, captions)]
        return [each for record in rows for each in cut.of(record)]
    return [each for record in members(path, path.parent) for each in cut.of(record)]


def _listed(
    path: Path, bad: BadRecords, columns: ImageColumns, captions: bool
) -> Iterator[ImageRecord]:
    """The rows of a table."""
    for line, row in _rows(path, bad, columns, captions):
        name = row["file"]
        if not name:
            bad.add(line, "no image is named", "fill the column, or drop the row")
            continue
        picture = next(
            (found for folder in FOLDERS if (found := _under(path.parent, folder, name))), None
        )
        if picture is None:
            bad.add(line, f"{name}: there is no such file", "check the name, or drop the row")
            continue
        words = len(row["caption"].split())
        if captions and not words:
            bad.add(line, f"{name}: the caption is blank", "fill it, or drop the row")
        elif captions and words > MOST_WORDS:
            reason = f"{name}: a caption of {words:,} words; {MOST_WORDS:,} is the most"
            bad.add(line, reason, "keep the sentences about the image")
        else:
            del row["file"]
            yield ImageRecord(picture, line, **row)


def _under(root: Path, folder: str, name: str) -> Picture | None:
    file, hash_sign, member = name.partition("#")
    place = (root / folder / file).resolve()
    if not place.exists():
        return None
    reference = (Path(folder) / file).as_posix() + hash_sign + member
    return Picture(reference, root)


def _rows(
    path: Path, bad: BadRecords, columns: ImageColumns, captions: bool
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {file, label, group, split, caption}) of each row; "" where there is no column."""
    wanted = {
        "file": (columns.file, FILE_COLUMNS, True),
        "label": (columns.label, LABEL_COLUMNS, False),
        "group": (columns.group, GROUP_COLUMNS, False),
        "split": ("", SPLIT_COLUMNS, False),
        "caption": (columns.caption, CAPTION_COLUMNS, captions),
    }
    with read_lines(path) as lines:
        if file_ending(path) in LINES:
            yield from _objects(lines, bad, wanted)
            return
        rows = table_rows(path, lines, bad, TABLES[file_ending(path)])
        _, header = next(rows)
        lower = [name.lower() for name in header]
        places = {}
        for field, (named, known, needed) in wanted.items():
            option = f"--data.columns.{field} (--columns.{field} of `biofm data prepare`)"
            if named:
                parts = named.split("+")
                places[field] = [column_index(path, header, (n,), option) for n in parts]
            elif needed:
                places[field] = [column_index(path, header, known, option)]
            else:
                places[field] = [lower.index(name) for name in known if name in lower][:1]
        for line, row in rows:
            yield line, {field: _joined(row[i] for i in at) for field, at in places.items()}


def _objects(lines, bad: BadRecords, wanted) -> Iterator[tuple[int, dict[str, str]]]:
    for line, text in lines:
        if not text.strip():
            continue
        try:
            row = {str(key).lower(): value for key, value in dict(json.loads(text)).items()}
        except (ValueError, TypeError):
            bad.add(line, "not a JSON object", "write one object a line")
            continue
        found = {}
        for field, (named, known, _) in wanted.items():
            names = named.lower().split("+") if named else [n for n in known if n in row][:1]
            found[field] = _joined(row.get(name) for name in names)
        yield line, found


def _joined(values: Iterable[object]) -> str:
    return " ".join(str(value).strip() for value in values if value is not None)
