"""Rows of results: judged against their targets, merged into a JSON file, shown as a table."""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS, TABLE = FOLDER / "results.json", FOLDER / "RESULTS.md"
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "torch", "transformers")

HEADER = """# Benchmarks

Made by `make bench` (or `python -m benchmarks.run PART ...`), which runs every contender side by
side on the same data and weights; the module named in a row's command says how it measures. A
ratio counts in favour of this package where it is above 1. `void` means that the same contender
entered twice disagreed with itself by more than 5 % (the machine was busy), or that a contender
ran at the edge of a GPU's memory: the figures say nothing.
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        part: the module that measured it.
        goal: number of the goal, None for a figure of none.
        figure: what was measured.
        value: the figure as text.
        target: what it should be; empty for a figure without one.
        met: "met", "missed", "void", "failed" or "" where there is no target.
        command: how to measure it again.
        numbers: the figures behind it, for machines.
    """

    part: str
    goal: int | None
    figure: str
    value: str
    target: str = ""
    met: str = ""
    command: str = ""
    numbers: dict = dataclasses.field(default_factory=dict)


def judged(
    part: str,
    goal: int | None,
    figure: str,
    number: float,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    form: str = "{:.2f}x",
    void: bool = False,
    note: str = "",
    **numbers,
) -> Row:
    """A row whose number is compared, unrounded, with one bound.

    Args:
        part: the module that measured it.
        goal: number of the goal.
        figure: what was measured.
        number: the figure.
        at_least: the lower bound, or
        at_most: the upper bound; neither for a figure without a target.
        form: how number and bound are written.
        void: the run does not count.
        note: written behind the value.
        **numbers: the figures behind it.
    """
    bound, sign, holds = None, "", True
    if at_least is not None:
        bound, sign, holds = at_least, ">=", number >= at_least
    elif at_most is not None:
        bound, sign, holds = at_most, "<=", number <= at_most
    met = "" if bound is None else "met" if holds else "missed"
    return Row(
        part,
        goal,
        figure,
        form.format(number) + (f" ({note})" if note else ""),
        "" if bound is None else f"{sign} {form.format(bound)}",
        "void" if void else met,
        f"python -m benchmarks.run {part}",
        {"number": number, **numbers},
    )


def machine() -> dict:
    """What the figures were measured on: processor, cores, versions, date."""
    model = platform.processor()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        names = [s for s in facts.read_text().splitlines() if s.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "cpu": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def run_part(measure) -> None:
    """The command line of a part: measure, and write its rows to the file named by --rows."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="JSON file to write")
    place = parser.parse_args().rows
    place.write_text(json.dumps([dataclasses.asdict(row) for row in measure()]))


def merge(rows: list[dict], where: dict) -> dict:
    """Put the rows of one or more parts into `results.json`, in place of their former rows.

    Args:
        rows: rows as dicts.
        where: the `machine()` they were measured on.

    Returns:
        The whole content of the file: {"rows": [...], "machines": {part: machine}}.
    """
    empty = {"rows": [], "machines": {}}
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else empty
    parts = {row["part"] for row in rows}
    kept = [row for row in known["rows"] if row["part"] not in parts]
    merged = {
        "rows": sorted(kept + rows, key=lambda row: row["goal"] or 99),
        "machines": known["machines"] | {part: where for part in sorted(parts)},
    }
    _write_whole(RESULTS, json.dumps(merged, indent=1) + "\n")
    _write_whole(TABLE, render(merged))
    return merged


def render(content: dict) -> str:
    """`results.json` as Markdown."""
    columns = ("goal", "figure", "value", "target", "met", "command")
    lines = [HEADER, "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in content["rows"]:
        cells = {**row, "command": f"`{row['command']}`"}
        lines.append(
            "| "
            + " | ".join(
                ("" if cells[c] is None else str(cells[c])).replace("|", "/") for c in columns
            )
            + " |"
        )
    lines += ["", "| part | measured on | versions | date |", "| --- | --- | --- | --- |"]
    for part, where in content["machines"].items():
        versions = ", ".join(f"{name} {v}" for name, v in where["versions"].items())
        place = where.get("gpu") or f"{where['cores']} cores, {where['cpu']}"
        lines.append(
            f"| {part} | {place} | Python {where['python']}, {versions} | {where['date']} |"
        )
    return "\n".join(lines) + "\n"


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    os.replace(temporary, path)
