"""The verbs `biofm data prepare` and `biofm data inspect`."""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from biofm_jax.data.inspection import inspect, prepare

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Check a file's records and write them as ArrayRecord, once.

    Attributes:
        kind: what the records are.
        path: FASTA, CSV, TSV or SMILES file, plain or gzip.
        out: the folder to make, for --data.path.
        tolerance: share of bad records with which to go on; all are listed in
            OUT/bad_records.jsonl.
        column: column of a table that holds the text; empty takes the first known name.
    """

    kind: Positional[Literal["protein", "molecule"]]
    path: Positional[str]
    out: Path
    tolerance: float = 0.0
    column: str = ""


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Count, measure and sample a prepared data set.

    Attributes:
        folder: what `biofm data prepare` made.
        max_tokens: row length for the count of cropped records; 0 takes the kind's default.
    """

    folder: Positional[Path]
    max_tokens: int = 0


def main(arguments: list[str]) -> int:
    """Run `biofm data ...`; returns the exit code."""
    console = Console()
    usage = "usage: biofm data prepare KIND PATH --out DIR | biofm data inspect DIR"
    if arguments[:1] == ["prepare"]:
        options = tyro.cli(Prepare, args=arguments[1:], prog="biofm data prepare")
        made = prepare(
            options.kind,
            options.path,
            options.out,
            tolerance=options.tolerance,
            column=options.column,
        )
        console.print(
            f"{made.count:,} {made.kind} records in {made.folder}; {made.bad:,} bad ones",
            highlight=False,
        )
        return 0
    if arguments[:1] == ["inspect"]:
        options = tyro.cli(Inspect, args=arguments[1:], prog="biofm data inspect")
        _show(console, inspect(options.folder, max_tokens=options.max_tokens))
        return 0
    asked = arguments[:1] in (["--help"], ["-h"])
    print(usage, file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def _show(console: Console, found) -> None:
    """Counts, a histogram of lengths, the most frequent tokens, the first records."""

    def line(name: str, value: str) -> None:
        console.print(f"{name:>12}  {value}", highlight=False, markup=False)

    line("kind", found.prepared.kind)
    line("records", f"{found.prepared.count:,} ({found.prepared.bad:,} bad ones left out)")
    line("tokens", f"{found.tokens:,}")
    line(
        "lengths",
        f"{found.shortest} to {found.longest}, median {found.median:g}, mean {found.mean:.1f}",
    )
    line("cropped", f"{found.cropped:,} records are longer than a row of {found.max_tokens}")
    line("duplicates", f"{found.duplicates:,}")
    line("unknown", f"{found.unknown:.4%} of tokens; {found.coverage:.0%} of the vocabulary occurs")
    peak = max(1, found.histogram.max())
    for low, high, count in zip(found.edges, found.edges[1:], found.histogram, strict=False):
        bar = "█" * round(40 * count / peak)
        line(f"{low:.0f}-{high:.0f}", f"{bar} {count:,}")
    line("frequent", "  ".join(f"{token} {count:,}" for token, count in found.vocabulary[:12]))
    for record in found.examples:
        line("example", " ".join(str(part) for part in dataclasses.astuple(record))[:200])
