"""Columns that items are grouped by: a user's own, from a CSV file, and bands of a number."""

import csv
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.evaluate.labels import numbers
from biofm_jax.evaluate.split_groups import is_missing
from biofm_jax.evaluate.task import Dataset

ID = "id"
BANDS = 3
MOST_NUMBERS = 10  # different numbers that still are groups by themselves, such as stages


def bands(values: Sequence[float], count: int = BANDS) -> list[str | None]:
    """Numbers as bands of about equally many: `under 214`, `214 to 306`, `306 and over`.

    Args:
        values: n numbers, nan = unknown.
        count: bands; fewer where many values are equal.

    Returns:
        n names, None where the number is unknown.
    """
    values = np.asarray(values, np.float64)
    known = values[~np.isnan(values)]
    if not len(known):
        return [None] * len(values)
    edges = np.unique(np.quantile(known, np.arange(1, count) / count))
    edges = edges[edges > known.min()]  # nothing lies under the lowest
    if not len(edges):
        return [None if np.isnan(v) else "all" for v in values]
    text = [f"{edge:.4g}" for edge in edges]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(text)]
    names = [f"under {text[0]}", *inner, f"{text[-1]} and over"]
    places = np.searchsorted(edges, values, "right")
    return [None if np.isnan(v) else names[place] for v, place in zip(values, places)]


def read_groups(path: Path) -> dict[str, dict[str, str]]:
    """A CSV file of an `id` column and any grouping columns.

    Returns:
        Column -> id -> cell.

    Raises:
        UserError: the file is missing, has no `id` or no other column, names a column or an id
            twice, or a row has another number of cells.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: a CSV file of an id and any columns is wanted")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        if ID not in header or len(header) < 2 or len(set(header)) < len(header):
            raise UserError(
                f"{path}: the header is {', '.join(header) or 'empty'}; a column {ID!r} and "
                "grouping columns, each once, are wanted"
            )
        found: dict[str, dict[str, str]] = {name: {} for name in header if name != ID}
        for row in reader:
            if len(row) != len(header):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(row)} cells where the header has "
                    f"{len(header)}"
                )
            cells = dict(zip(header, row))
            key = cells.pop(ID)
            if key in next(iter(found.values())):
                raise UserError(f"{path}, line {reader.line_num}: the id {key!r} is there twice")
            for name, cell in cells.items():
                found[name][key] = cell
    return found


def with_groups(
    dataset: Dataset, columns: Mapping[str, Mapping[str, str]], apart: Sequence[str] = ()
) -> Dataset:
    """A data set with more grouping columns, which are looked at as metadata too.

    A column of more than ten different numbers becomes three bands, unless it is one of `apart`.

    Args:
        dataset: the data.
        columns: as `read_groups` gives them; items that are not there have no value.
        apart: the columns whose groups belong on one side of the split, such as the patient.

    Raises:
        UserError: no item has a value, a column that the data has already, or one of `apart`
            that neither has.
    """
    ids = dataset.items.ids
    groups, metadata = {}, {}
    for name, cells in columns.items():
        if name in dataset.groups or name in dataset.metadata:
            raise UserError(f"the task has a column {name!r} of its own: rename that of the file")
        values = [cells.get(key) for key in ids]
        if all(is_missing(value) for value in values):
            raise UserError(
                f"column {name!r} has no value for any of the {len(ids):,} items; their ids are "
                f"such as {', '.join(ids[:3])}"
            )
        metadata[name] = values
        groups[name] = values if name in apart else _grouped(values)
    return dataclasses.replace(
        dataset,
        groups={**dataset.groups, **groups},
        apart=tuple(dict.fromkeys((*dataset.apart, *apart))),
        metadata={**dataset.metadata, **metadata},
    )


def _grouped(values: list[str | None]) -> list[str | None]:
    if len({value for value in values if not is_missing(value)}) <= MOST_NUMBERS:
        return values
    try:
        return bands(numbers(["" if v is None else v for v in values], "", ""))
    except UserError:  # texts
        return values
