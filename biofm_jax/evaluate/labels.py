"""Columns of CSV files, as texts and labels."""

import csv
from collections.abc import Iterable

import numpy as np

from biofm_jax.errors import UserError


def read_columns(lines: Iterable[str], source: str, columns: tuple[str, ...]) -> list[list[str]]:
    """Some columns of a CSV with a header.

    Args:
        lines: the open text.
        source: file name for messages.
        columns: their names.

    Returns:
        One list of cells per column, in the order asked for.

    Raises:
        UserError: empty, a column is missing, or a row is cut short.
    """
    reader = csv.reader(lines)
    header = next(reader, None)
    if header is None:
        raise UserError(f"{source} is empty")
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(f"{source}: no column {missing[0]!r} among {', '.join(header)}")
    places = [header.index(name) for name in columns]
    cells: list[list[str]] = [[] for _ in columns]
    for row in reader:
        if len(row) <= max(places):
            raise UserError(
                f"{source}, line {reader.line_num}: {len(row)} fields where the header has "
                f"{len(header)}"
            )
        for cell, place in zip(cells, places):
            cell.append(row[place])
    return cells


def numbers(cells: list[str], source: str, column: str) -> np.ndarray:
    """(n,) float64 labels; a blank cell is missing: nan.

    Raises:
        UserError: a cell is not a finite number.
    """
    values = np.full(len(cells), np.nan)
    for index, cell in enumerate(cells):
        if not cell.strip():
            continue
        try:
            values[index] = float(cell)
        except ValueError:
            values[index] = np.inf
        if not np.isfinite(values[index]):
            raise UserError(
                f"{source}, record {index + 1}: {column} is {cell!r}; a finite number or a "
                "blank (missing) is wanted"
            )
    return values
