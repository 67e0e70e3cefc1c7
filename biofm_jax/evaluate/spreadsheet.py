"""Columns of an .xlsx workbook, as texts; its parts are XML in a zip."""

import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

from biofm_jax.errors import UserError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_sheet(path: Path, header: int, columns: tuple[str, ...]) -> list[list[str]]:
    """Some columns of a workbook's first sheet.

    Args:
        path: the .xlsx file.
        header: number of the row that names the columns, from 1.
        columns: names.

    Returns:
        One list of cells per column, in the order asked for, of the rows under the header that
        are not empty. A blank cell is an empty text; a number is written as in the file.

    Raises:
        UserError: no workbook, no such row, or a column is missing.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            sheet = ET.fromstring(parts.read("xl/worksheets/sheet1.xml"))
            shared = []
            if "xl/sharedStrings.xml" in parts.namelist():
                strings = ET.fromstring(parts.read("xl/sharedStrings.xml"))
                shared = ["".join(t.text or "" for t in s.iter(f"{_MAIN}t")) for s in strings]
        rows = {int(row.get("r", 0)): _cells(row, shared) for row in sheet.iter(f"{_MAIN}row")}
    except (zipfile.BadZipFile, KeyError, IndexError, ValueError, ET.ParseError) as error:
        raise UserError(f"{path} is no whole .xlsx workbook ({error}); fetch it again") from error
    names = {name: letters for letters, name in rows.get(header, {}).items()}
    missing = [name for name in columns if name not in names]
    if missing:
        raise UserError(f"{path}, row {header}: no column {missing[0]!r} among {', '.join(names)}")
    body = [cells for number, cells in sorted(rows.items()) if number > header and cells]
    return [[cells.get(names[name], "") for cells in body] for name in columns]


def _cells(row: ET.Element, shared: list[str]) -> dict[str, str]:
    """Column letters -> text of the cells that hold something."""
    found = {}
    for cell in row.iter(f"{_MAIN}c"):
        kind, value = cell.get("t"), cell.find(f"{_MAIN}v")
        if kind == "inlineStr":
            text = "".join(t.text or "" for t in cell.iter(f"{_MAIN}t"))
        elif value is None or value.text is None:
            continue
        else:
            text = shared[int(value.text)] if kind == "s" else value.text
        found[cell.get("r", "").rstrip("0123456789")] = text
    return found
