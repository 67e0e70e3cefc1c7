"""`biofm data prepare imaging` and `biofm data inspect` of images: parse, call, print."""

import collections
import dataclasses
import json
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from tyro.conf import Positional

from biofm_jax.data.image_caption import ImageCaptionData
from biofm_jax.data.image_inspection import contact_sheet, inspect_images
from biofm_jax.data.image_records import ImageColumns
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.sequence import expanded
from biofm_jax.data.slide_tiles import TileSpec, prepare_tiles

SHOWN = 12  # labels and kinds of images in a list


@dataclasses.dataclass(frozen=True)
class PrepareImages:
    """Check images and write them once as a memory map of one size, for --data.path.

    Training on OUT takes the same fields (--data.image, --data.channels, ...).

    Attributes:
        path: a folder (class subfolders, DICOM series, or with labels.csv), a CSV, TSV or
            JSON-lines file that names images, an NPZ in MedMNIST's layout, or one volume.
        out: the folder to make.
        image: height and width in pixels, or of volumes slices, height and width.
        channels: 1 or 3.
        fit: stretch an image of another shape, crop it, or pad it.
        spacing: millimetres between pixels along each axis, to resample to.
        window: lowest and highest value shown, in the file's unit (Hounsfield units of a CT).
        volumes: of a volume each slice, or each with its neighbours as three channels.
        bits: of a stored pixel.
        split: only records of this split; empty takes all but `test`.
        captions: the table names captions; a record without one is bad.
        tolerance: share of bad records with which to go on; all are listed in
            OUT/bad_records.jsonl.
        columns: of a table; empty ones take the first known name.
    """

    path: Positional[str]
    out: Path
    image: tuple[int, ...] = (224, 224)
    channels: int = 3
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    spacing: tuple[float, ...] = ()
    window: tuple[float, ...] = ()
    volumes: Literal["slices", "neighbours"] = "slices"
    bits: Literal[8, 16] = 8
    split: str = ""
    captions: bool = False
    tolerance: float = 0.0
    columns: ImageColumns = ImageColumns()


def prepare(arguments: list[str]) -> int:
    """Run `biofm data prepare imaging ...`; returns the exit code."""
    config = (tyro.conf.FlagConversionOff,)
    prog = "biofm data prepare imaging"
    options = tyro.cli(PrepareImages, args=arguments, prog=prog, config=config)
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    out, captions = fields.pop("out"), fields.pop("captions")
    made = (ImageCaptionData if captions else ImageData)(**fields).prepare(out)
    about = json.loads((made / "metadata.json").read_text())
    more = f"; {about['left_out']:,} of other splits left out" if about["left_out"] else ""
    Console().print(
        f"{about['count']:,} imaging records in {made}; {about['bad']:,} bad ones{more}",
        highlight=False,
    )
    return 0


@dataclasses.dataclass(frozen=True)
class Tiles(TileSpec):
    """Cut whole slides into tiles that hold tissue, and write these once, for --data.path.

    Training on OUT takes --data.image SIZE SIZE. A slide without tissue or without a resolution is
    a bad record. The tiles of a slide are one group, on one side of every split.

    Attributes:
        path: a slide, a folder of slides, or a table with columns file, label and group.
        out: the folder to make.
        tolerance: share of bad records with which to go on.
    """

    path: Positional[str] = tyro.MISSING
    out: Path = tyro.MISSING
    tolerance: float = 0.0


def tiles(arguments: list[str]) -> int:
    """Run `biofm data tiles ...`; returns the exit code."""
    options = tyro.cli(Tiles, args=arguments, prog="biofm data tiles")
    spec = TileSpec(**{f.name: getattr(options, f.name) for f in dataclasses.fields(TileSpec)})
    source = expanded(options.path, "PATH")
    counts = prepare_tiles(source, options.out, spec, options.tolerance)
    console = Console()
    for slide, count in counts.items():
        console.print(f"{count:>8,}  {slide}", highlight=False, markup=False)
    console.print(
        f"{sum(counts.values()):,} tiles of {len(counts):,} slides in {options.out}; train on it "
        f"with --data.path {options.out} --data.image {spec.size} {spec.size}",
        highlight=False,
    )
    return 0


def is_images(folder: Path) -> bool:
    """Whether a folder holds prepared images."""
    try:
        return json.loads((folder / "metadata.json").read_text()).get("kind") == ImageData.kind
    except (OSError, ValueError):
        return False


def show(folder: Path) -> int:
    """Print what `inspect_images` finds and draw the contact sheet; returns the exit code."""
    found, console = inspect_images(folder), Console()
    about, store = found.about, found.store

    def line(name: str, value: str) -> None:
        console.print(f"{name:>12}  {value}", highlight=False, markup=False)

    line("kind", f"imaging, from {about['source']}")
    bad = f"{about['bad']:,} bad ones left out"
    other = f", {about['left_out']:,} of other splits" if about["left_out"] else ""
    line("records", f"{len(store):,} ({bad}{other})")
    shape = " x ".join(map(str, store.pixels.shape[1:]))
    line("stored", f"{len(store.pixels):,} images of {shape} {store.pixels.dtype}")
    for name in ("fit", "volumes", "spacing", "window"):
        if about[name] and about[name] not in ("stretch", "slices"):
            line(name, str(about[name]))
    for text in _sources(about["images"]):
        line("were", text)
    if about["other_files"]:
        line(
            "no image",
            ", ".join(f"{n} {end or 'without ending'}" for end, n in about["other_files"].items()),
        )
    line("duplicates", f"{found.duplicates:,}")
    line("groups", f"{found.groups:,} (patients, cases or volumes)")
    for name, counted in (("labels", found.labels), ("splits", found.splits)):
        if [value for value, _ in counted] != [""]:
            text = "  ".join(f"{value or '(none)'} {count:,}" for value, count in counted[:SHOWN])
            line(name, text + ("  ..." if len(counted) > SHOWN else ""))
    if found.words:
        shortest, median, longest = found.words
        line("captions", f"{shortest} to {longest} words, median {median:g}")
    line("mean", "  ".join(f"{value:.4f}" for value in found.mean))
    line("deviation", "  ".join(f"{value:.4f}" for value in found.deviation))
    sheet = folder / "contact_sheet.png"
    line("pictures", f"{contact_sheet(store, sheet)} in {sheet}")
    return 0


def _sources(kinds: list[dict]) -> list[str]:
    """A line for each type of pixels: how many images, of which sizes, with spacing or without."""
    alike = collections.defaultdict(list)
    for kind in kinds:
        *sizes, channels = kind["sizes"]
        alike[len(sizes), channels, kind["type"], kind["spaced"]].append((sizes, kind["images"]))
    lines = []
    for (_, channels, dtype, spaced), same in sorted(alike.items()):
        ends = [" x ".join(map(str, size)) for size, _ in (min(same), max(same))]
        text = ends[0] if len(same) == 1 else f"{ends[0]} to {ends[1]} ({len(same)} sizes)"
        spacing = "mm known" if spaced else "no spacing"
        count = sum(images for _, images in same)
        of = "1 channel" if channels == 1 else f"{channels} channels"
        lines.append(f"{count:,} of {text}, {of} {dtype}, {spacing}")
    return lines
