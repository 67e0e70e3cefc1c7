"""Slides to a prepared folder of tiles, which `ImageData` reads."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.image_folders import Cut, ImageRecord
from biofm_jax.data.image_records import TABLE_ENDINGS, read_image_records
from biofm_jax.data.image_store import Loaded, publish_images
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.pictures import Picture
from biofm_jax.data.readers import file_ending
from biofm_jax.data.slides import ENDINGS, open_slide, tile_members
from biofm_jax.data.stain import Macenko, Reinhard, reference
from biofm_jax.data.tissue import tissue_mask
from biofm_jax.errors import UserError

STAINS: dict[str, type] = {"macenko": Macenko, "reinhard": Reinhard}


@dataclasses.dataclass(frozen=True)
class TileSpec:
    """How slides are cut.

    Attributes:
        size: pixels of a tile's side.
        mpp: micrometres a pixel: 0.5 is 20x, 0.25 is 40x.
        stride: pixels between the starts of two tiles; 0 is `size`: they do not overlap.
        tissue: smallest share of a tile that is tissue.
        slide_mpp: micrometres a pixel of the slides, where the files tell none or a wrong one.
        stain: bring the colours of each slide to a reference: by Macenko's or Reinhard's method.
    """

    size: int = 224
    mpp: float = 0.5
    stride: int = 0
    tissue: float = 0.5
    slide_mpp: float = 0.0
    stain: Literal["none", "macenko", "reinhard"] = "none"

    def __post_init__(self):
        if self.size < 1 or self.stride < 0 or self.mpp <= 0 or self.slide_mpp < 0:
            raise UserError(
                f"tiles of {self.size} pixels at {self.mpp} micrometres a pixel every {self.stride}"
                " pixels are not possible; size and mpp are above 0"
            )
        if not 0 <= self.tissue <= 1:
            raise UserError(f"--tissue is {self.tissue}; it is a share, from 0 to 1")


def prepare_tiles(path: Path, out: Path, spec: TileSpec, tolerance: float = 0.0) -> dict[str, int]:
    """Cut slides and write their tiles.

    The tiles of a slide are one group. A slide that cannot be read or holds no tissue is a bad
    record.

    Args:
        path: a slide; a folder of slides, whose first folders are labels; or a table with columns
            file, and as wanted label, group and split.
        out: the folder to make; a run with `ImageData(path=out, image=(size, size))` reads it.
        spec: how.
        tolerance: share of bad records, slides and tiles together.

    Returns:
        Tiles of each good slide.

    Raises:
        UserError: no slide, too many bad ones, or `out` exists.
    """
    bad = BadRecords(str(path))
    tiles: list[ImageRecord] = []
    counts = {}
    for record in _slides(path, bad):
        try:
            slide = open_slide(record.picture.file)
            found = tile_members(
                slide,
                spec.size,
                spec.mpp,
                stride=spec.stride,
                tissue=spec.tissue,
                own=spec.slide_mpp,
            )
        except BadText as error:
            bad.of(record.picture.file, error)
            continue
        counts[str(record.picture)] = len(found)
        group = record.group or str(record.picture)
        tiles += [
            dataclasses.replace(
                record, picture=Picture(f"{record.picture}#{m}", record.picture.root), group=group
            )
            for m in found
        ]
    fields = ImageData(str(path), image=(spec.size, spec.size)).recorded()
    about = {"kind": ImageData.kind, "source": path.name, **fields}
    about |= {"left_out": 0, "other_files": {}, "tiles": dataclasses.asdict(spec)}
    shape = (spec.size, spec.size, 3)
    publish_images(out, tiles, _loader(spec), shape, np.dtype(np.uint8), bad, tolerance, about)
    return counts


def _slides(path: Path, bad: BadRecords) -> list[ImageRecord]:
    if path.is_file() and file_ending(path) in TABLE_ENDINGS:
        return read_image_records(path, bad, cut=Cut(3))
    root = path if path.is_dir() else path.parent
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = []
    for file in files:
        parts = file.relative_to(root).parts
        if file.suffix.lower() in ENDINGS and not any(part.startswith(".") for part in parts):
            label = parts[0] if len(parts) > 1 else ""
            found.append(ImageRecord(Picture("/".join(parts), root), label=label))
    if not found:
        raise UserError(f"{path}: no slide; endings are {', '.join(ENDINGS)}")
    return found


def _loader(spec: TileSpec) -> Callable[[ImageRecord], Loaded]:
    """What reads a tile, in the colours of the reference where asked for."""

    def load(record: ImageRecord) -> Loaded:
        found = record.picture.read()
        if spec.stain == "none":
            return found.pixels, found
        kind = STAINS[spec.stain]
        return _measured(record.picture.file, kind).to(found.pixels, reference(kind)), found

    return load


@functools.lru_cache(maxsize=16)
def _measured(path: Path, kind: type) -> Macenko | Reinhard:
    """The colours of a slide's tissue, on its overview."""
    picture = open_slide(path).overview()
    return kind.of(picture[tissue_mask(picture)])
