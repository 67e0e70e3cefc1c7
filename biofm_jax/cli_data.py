"""The verbs `biofm data prepare`, `tiles`, `inspect` and `fetch`."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from biofm_jax import cli_images
from biofm_jax.data import fetch as fetching
from biofm_jax.data import registry
from biofm_jax.data.download import FetchError
from biofm_jax.data.inspection import inspect, prepare
from biofm_jax.data.molecule_policy import MoleculePolicy
from biofm_jax.errors import UserError

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Check a file's records and write them as ArrayRecord, once.

    Attributes:
        kind: what the records are.
        path: FASTA, CSV, TSV, SMILES, SELFIES, SDF or MOL file, or for notes a .txt (one a line)
            or .jsonl, each plain or gzip.
        out: the folder to make, for --data.path.
        tolerance: share of bad records with which to go on; all are listed in
            OUT/bad_records.jsonl.
        column: column of a table that holds the text; empty takes the first known name.
        policy: how molecules are standardised; training on OUT needs the same --data.policy.
    """

    kind: Positional[Literal["protein", "molecule", "genome", "notes"]]
    path: Positional[str]
    out: Path
    tolerance: float = 0.0
    column: str = ""
    policy: MoleculePolicy = MoleculePolicy()


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Count, measure and sample a prepared data set.

    Attributes:
        folder: what `biofm data prepare` made.
        max_tokens: row length for the count of cropped records; 0 takes the kind's default.
    """

    folder: Positional[Path]
    max_tokens: int = 0


Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclasses.dataclass(frozen=True)
class Fetch:
    """Bring public benchmarks from their origin; without a NAME, list them.

    Each file comes from a URL that names a commit, is checked by sha256 and put in place whole or
    not at all. What is there already is not fetched again, and a broken download goes on. Licence
    and citation are shown first.

    Attributes:
        names: the sets to fetch, for example flip_gb1; none lists all with size and licence.
        to: root folder of the data sets; the default is the one that BIOFM_DATA names.
        accept: consent to terms that do not let everyone use a set (non-commercial, or none
            stated).
        json: print JSON instead of text.
        dry_run: say what would be fetched from where, and write nothing.
    """

    names: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME")] = ()
    to: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    accept: Flag = False
    json: Flag = False
    dry_run: Flag = False


def main(arguments: list[str]) -> int:
    """Run `biofm data ...`; returns the exit code."""
    console = Console()
    usage = (
        "usage: biofm data prepare KIND PATH --out DIR | biofm data inspect DIR\n"
        "       | biofm data tiles SLIDES --out DIR\n"
        "       | biofm data fetch [NAME ...] [--to DIR] [--accept] [--json] [--dry-run]\n\n"
        "  prepare  check a file's records and write them as ArrayRecord, once; KIND is protein,\n"
        "           molecule, genome, notes or imaging (a memory map of pixels)\n"
        "  tiles    cut whole-slide images into tiles that hold tissue\n"
        "  inspect  count, measure and sample a prepared data set\n"
        "  fetch    bring public benchmarks from their origin; without a NAME, list them"
    )
    if arguments[:1] == ["fetch"]:
        options = tyro.cli(Fetch, args=_bare(arguments[1:]), prog="biofm data fetch")
        return _fetch(options) if options.names else _list(options)
    if arguments[:2] == ["prepare", "imaging"]:
        return cli_images.prepare(arguments[2:])
    if arguments[:1] == ["tiles"]:
        return cli_images.tiles(arguments[1:])
    if arguments[:1] == ["prepare"]:
        options = tyro.cli(Prepare, args=arguments[1:], prog="biofm data prepare")
        made = prepare(
            options.kind,
            options.path,
            options.out,
            tolerance=options.tolerance,
            column=options.column,
            policy=options.policy,
        )
        console.print(
            f"{made.count:,} {made.kind} records in {made.folder}; {made.bad:,} bad ones",
            highlight=False,
        )
        return 0
    if arguments[:1] == ["inspect"]:
        options = tyro.cli(Inspect, args=arguments[1:], prog="biofm data inspect")
        if cli_images.is_images(options.folder):
            return cli_images.show(options.folder)
        _show(console, inspect(options.folder, max_tokens=options.max_tokens))
        return 0
    asked = arguments[:1] in (["--help"], ["-h"])
    print(usage, file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def _bare(arguments: list[str]) -> list[str]:
    """`--json True`, as the other verbs take it, as the flag alone; `--json False` as nothing."""
    kept: list[str] = []
    for word in arguments:
        if word in ("True", "False") and kept[-1:] in (["--accept"], ["--json"], ["--dry-run"]):
            if word == "False":
                kept.pop()
            continue
        kept.append(word)
    return kept


def _list(options: Fetch) -> int:
    """All sets with size and licence, and whether they are under the root."""
    try:
        root = fetching.data_root(options.to)
    except UserError:  # no root is needed to see what there is
        root = None
    rows = []
    for each in registry.registry().values():
        here = root and all(f.status == "present" for f in fetching.look(each, root))
        row = {"name": each.name, "about": each.about, "bytes": each.bytes, "here": here}
        row |= {"licence": each.licence, "terms": each.terms, "citation": each.citation}
        rows.append(row | {"folder": each.folder, "note": each.note, "origins": each.origins})
    if options.json:
        print(json.dumps(rows))
        return 0
    table = Table("name", "size", "here", "about, licence", box=None)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for row in rows:
        here = {None: "-", True: "yes", False: "no"}[row["here"]]
        licence = row["licence"] + ("" if row["terms"] == "open" else " (needs --accept)")
        about = Text(row["about"]).append(f"\n{licence}", style="dim")
        table.add_row(row["name"], decimal(row["bytes"]), here, about)
    console = Console()
    console.print(table)
    where = f"here: in {root}" if root else "here: set BIOFM_DATA or give --to DIR to see"
    console.print(f"{where}; `biofm data fetch NAME` brings a set", highlight=False, markup=False)
    return 0


def _fetch(options: Fetch) -> int:
    """Fetch some sets: the rest goes on where one fails, and the exit code is then 1."""
    sets, root = registry.find(options.names), fetching.data_root(options.to)
    found = {each.name: fetching.look(each, root) for each in sets}
    missing = [s for s in sets if any(file.status != "present" for file in found[s.name])]
    if not options.dry_run:
        fetching.check_terms(missing, options.accept)
    rows, failed = [], False
    for each in sets:
        _introduce(each)
        placed = found[each.name]
        if each in missing and not options.dry_run:
            try:
                placed = fetching.fetch(each, root, bars=not options.json)
            except FetchError as error:
                print(f"biofm data: {each.name}: {error}", file=sys.stderr)
                placed, failed = fetching.look(each, root), True
        for one in placed:
            row = {"name": each.name, "status": one.status, "path": str(one.path)}
            rows.append(row | {"bytes": one.file.bytes, "url": one.file.url})
            if not options.json:
                print(f"{one.status:>8}  {one.file.bytes:>11,}  {one.path}")
                if options.dry_run and one.status != "present":
                    print(f"{'from':>21}  {one.file.url}")
    if options.json:
        print(json.dumps(rows))
    elif options.dry_run:
        print("dry run: nothing was written")
    return 1 if failed else 0


def _introduce(data_set: registry.DataSet) -> None:
    """Licence, citation and origin, before the first byte is fetched."""
    print(f"{data_set.name}: {data_set.about}", file=sys.stderr)
    terms = "" if data_set.terms == "open" else f"; {registry.TERMS[data_set.terms]} (--accept)"
    print(f"  licence: {data_set.licence}{terms}", file=sys.stderr)
    print(f"  cite:    {data_set.citation}", file=sys.stderr)
    print(f"  from:    {', '.join(data_set.origins)}", file=sys.stderr)
    if data_set.note:
        print(f"  note:    {data_set.note}", file=sys.stderr)


def _show(console: Console, found) -> None:
    """Counts, a histogram of lengths, the most frequent tokens, the first records."""

    def line(name: str, value: str) -> None:
        console.print(f"{name:>12}  {value}", highlight=False, markup=False)

    line("kind", found.prepared.kind)
    if found.prepared.kind == "molecule":
        policy = dataclasses.asdict(MoleculePolicy.of(found.prepared.source))
        line("policy", ", ".join(f"{name} {value}" for name, value in policy.items()))
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
