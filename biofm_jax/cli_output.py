"""What every verb shares: reading its options, printing its tables."""

import json

import tyro
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

OUT = Console()
ERR = Console(stderr=True)
DONE, FAILED, MISUSED = 0, 1, 2

CONFIG = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)


def parse(kind, arguments: list[str], verb: str, **more):
    """Arguments as a dataclass; prints help or the error and exits with 0 or 2."""
    return tyro.cli(
        kind, args=arguments, prog=f"biofm {verb}", config=CONFIG, use_underscores=True, **more
    )


def print_rows(title: str, rows: list[dict], as_json: bool, across: bool = True) -> None:
    """Rows of a table: across the page, or one below the other where there is a single one."""
    if as_json:
        print(json.dumps(rows, default=str))
        return
    lines = [{name: _cell(value) for name, value in row.items()} for row in rows]
    if not across:
        OUT.print(_below(title, lines[0]))
        return
    table = Table(
        *dict.fromkeys(n for line in lines for n in line), title=title, title_justify="left"
    )
    for line in lines:
        table.add_row(*(line.get(column.header, "") for column in table.columns))
    table.columns[0].no_wrap = True  # the name to type
    if Measurement.get(OUT, OUT.options.update(max_width=10_000), table).minimum <= OUT.width:
        OUT.print(table)
        return
    # Too narrow for the longest words: nothing is cut where each row stands alone.
    OUT.print(title, highlight=False)
    for line in lines:
        name, *rest = line
        OUT.print(_below(line[name], {key: line[key] for key in rest}))


def _below(title: str, values: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in values.items():
        table.add_row(name, value)
    return table


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)
