"""Lists and tables of variants, read whole: the order and the other columns are kept."""

import dataclasses
from pathlib import Path

from biofm_jax.data.bad_records import SHOWN, BadRecords
from biofm_jax.data.readers import TABLE_ENDINGS, file_ending, read_lines, table_rows
from biofm_jax.errors import UserError

VARIANT_COLUMNS = ("mutant", "mutation", "variant", "hgvs_p")
SEQUENCE_COLUMNS = ("mutated_sequence",)


@dataclasses.dataclass(frozen=True)
class VariantTable:
    """Variants with all that stands beside them.

    Attributes:
        path: of the file.
        column: that holds the variants.
        whole: whether it holds whole sequences instead of mutations.
        lines: (n,) line numbers of the file, from 1.
        columns: name -> n cells, in the order of the file.
    """

    path: Path
    column: str
    whole: bool
    lines: tuple[int, ...]
    columns: dict[str, tuple[str, ...]]

    @property
    def variants(self) -> tuple[str, ...]:
        """(n,) cells of the column of variants."""
        return self.columns[self.column]


def read_variants(path: Path, column: str = "") -> VariantTable:
    """Read the variants of a file.

    Args:
        path: .csv or .tsv with a header; any other file has one variant a line, where blank
            lines and lines that begin with # are comments. Each also as .gz.
        column: of a table; empty takes the first of mutant, mutation, variant, hgvs_p and
            mutated_sequence. A column without any digit holds whole sequences.

    Raises:
        UserError: the file cannot be read, lacks the column, has a blank variant or a row of
            another width, or holds no variant.
    """
    delimiter = TABLE_ENDINGS.get(file_ending(path))
    if delimiter is None:
        if column:
            raise UserError(f"{path} is a list, not a .csv or .tsv: it has no column {column!r}")
        with read_lines(path) as lines:
            found = [(number, line.strip()) for number, line in lines]
        found = [(number, line) for number, line in found if line and not line.startswith("#")]
        rows = [(number, [line]) for number, line in found]
        return _checked(path, "variant", ["variant"], rows, table=False)
    bad = BadRecords(str(path))
    with read_lines(path) as lines:
        (_, header), *rows = table_rows(path, lines, bad, delimiter)
    if bad.records:
        listed = "\n  ".join(str(record) for record in bad.records[:SHOWN])
        raise UserError(f"{path}: {len(bad.records)} rows cannot be read\n  {listed}")
    if twice := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{path}, line 1: column {twice[0]!r} stands twice; rename one")
    wanted = (column,) if column else VARIANT_COLUMNS + SEQUENCE_COLUMNS
    lower = {name.lower(): name for name in reversed(header)}
    name = next((lower[each.lower()] for each in wanted if each.lower() in lower), None)
    if name is None:
        raise UserError(
            f"{path}, line 1: no column {' or '.join(map(repr, wanted))}; it has "
            f"{', '.join(header)}. Name the right one with --column"
        )
    return _checked(path, name, header, rows, table=True)


def _checked(
    path: Path, column: str, header: list[str], rows: list[tuple[int, list[str]]], table: bool
) -> VariantTable:
    if not rows:
        raise UserError(f"{path} holds no variant; give one with at least one")
    columns = {name: tuple(row[i].strip() for _, row in rows) for i, name in enumerate(header)}
    cells = columns[column]
    if "" in cells:
        line = rows[cells.index("")][0]
        raise UserError(f"{path}, line {line}: {column!r} is blank; fill it or drop the row")
    whole = table and not any(character.isdigit() for cell in cells for character in cell)
    return VariantTable(path, column, whole, tuple(n for n, _ in rows), columns)
