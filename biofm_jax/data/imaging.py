"""Medical images: files become a memory map of one size, batches hold one image a row."""

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import jax
import numpy as np

from biofm_jax.data.api import ExampleData, Lengths
from biofm_jax.data.bad_records import BadRecords, BadText, tolerance_advice
from biofm_jax.data.batch import Batch, batch_shapes
from biofm_jax.data.image_folders import Cut, ImageRecord
from biofm_jax.data.image_records import (
    FOLDERS,
    TABLE_ENDINGS,
    ImageColumns,
    read_image_records,
)
from biofm_jax.data.image_store import (
    FORMAT,
    ImageExample,
    ImageRows,
    ImageStore,
    open_images,
    publish_images,
)
from biofm_jax.data.pictures import Picture
from biofm_jax.data.pipeline import BatchIterator, split_batches
from biofm_jax.data.pixels import Fit, Image, fitted, quantised, shown, with_channels
from biofm_jax.data.readers import file_ending
from biofm_jax.data.sequence import expanded
from biofm_jax.errors import UserError

HELD = ("test", "testing")  # left out of what a model is pretrained on


@dataclasses.dataclass(frozen=True)
class ImageData(ExampleData):
    """Images of a folder, a table, an NPZ or DICOM or NIfTI files, all of one size."""

    path: str = ""
    """A folder (class subfolders, DICOM series, or with `labels.csv`), a CSV, TSV or JSON-lines
    file that names images, an NPZ in MedMNIST's layout, one volume, or a folder that `biofm data
    prepare` made; `$BIOFM_DATA/...` is expanded."""
    image: tuple[int, ...] = (224, 224)
    """Pixels of an image: height and width, or of a volume slices, height and width."""
    channels: int = 3
    """1 or 3 as a rule. Grey is repeated, colour becomes luma."""
    fit: Fit = "stretch"
    """How an image of another shape comes to `image`: stretched, cropped, or padded with 0."""
    spacing: tuple[float, ...] = ()
    """Millimetres between pixels, for each axis of `image`: images are resampled to these and then
    cropped and padded. Empty leaves it to `fit`."""
    window: tuple[float, ...] = ()
    """Lowest and highest value shown, in the file's unit (Hounsfield units of a CT). Empty takes
    the file's window, or where there is none the 0.5th to 99.5th percentile of each image."""
    volumes: Literal["slices", "neighbours"] = "slices"
    """What becomes of a volume where `image` is flat: each slice by itself, or with the one before
    and the one behind it as three channels."""
    bits: Literal[8, 16] = 8
    """Of a stored pixel."""
    holdout: float = 0.01
    """Share of records kept for the validation loss, by hash of the group (patient, case), else of
    the pixels: equal images stay on one side."""
    tolerance: float = 0.0
    """Share of bad records with which a run goes on; all are listed in any case."""
    split: str = ""
    """Only the records of this split, where the source names splits, upper or lower case; empty
    takes all but `test`."""
    fraction: float = 1.0
    """Share of the training records that is used, by the same hash: a smaller share is part of a
    larger one, and the held-out records stay the same."""
    columns: ImageColumns = ImageColumns()
    """Of a table; empty ones take the first known name."""

    kind: ClassVar[str] = "imaging"
    unit: ClassVar[str] = "images"
    captions: ClassVar[bool] = False

    def __post_init__(self):
        if len(self.image) not in (2, 3) or min(self.image) < 1:
            raise UserError(f"data.image is {self.image}; give height and width, or z too")
        if self.channels < 1:
            raise UserError(f"data.channels is {self.channels}; use 1 or 3")
        if self.spacing and (len(self.spacing) != len(self.image) or min(self.spacing) <= 0):
            raise UserError(
                f"data.spacing is {self.spacing}; give millimetres for each of the "
                f"{len(self.image)} axes of data.image"
            )
        if self.window and (len(self.window) != 2 or self.window[0] >= self.window[1]):
            raise UserError(f"data.window is {self.window}; give the lowest and highest value")
        if self.volumes == "neighbours" and (self.channels != 3 or len(self.image) != 2):
            raise UserError("data.volumes neighbours needs data.channels 3 and a flat data.image")
        if not 0 <= self.holdout < 1 or not 0 <= self.tolerance < 1:
            raise UserError(
                f"holdout is {self.holdout} and tolerance {self.tolerance}; "
                "each is a share, at least 0 and below 1"
            )
        if not 0 < self.fraction <= 1:
            raise UserError(f"data.fraction is {self.fraction}; it must lie in (0, 1]")

    max_tokens = 1  # an image a row
    segments = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """([z,] h, w, c) of an image."""
        return (*self.image, self.channels)

    @property
    def dtype(self) -> np.dtype:
        """Of a stored pixel."""
        return np.dtype(f"uint{self.bits}")

    def clean(self, text: str) -> Picture:
        """A `Picture` as it is; other text is the path of a file.

        Raises:
            BadText: there is no such file.
        """
        picture = text if isinstance(text, Picture) else Picture(text)
        if not picture.file.exists():
            raise BadText(f"{picture}: there is no such file", "check the path")
        return picture

    def to_example(self) -> Callable[[str], ImageExample]:
        """What reads a cleaned `Picture`; it raises `UserError` for one that cannot be read."""

        def example(picture: Picture) -> ImageExample:
            try:
                return ImageExample(self.pixels(picture.read()))
            except BadText as error:
                raise UserError(f"{picture}: {error.reason}; {error.fix}") from error

        return example

    def pixels(self, image: Image) -> np.ndarray:
        """An image of a reader at the size, channels and depth of this data.

        Returns:
            ([z,] h, w, c) uint8 or uint16.

        Raises:
            BadText: it is a volume where `image` is flat or the reverse, it has no spacing in mm
                where `spacing` asks for some, all pixels are equal, or it has other channels.
        """
        axes = len(self.image)
        if image.pixels.ndim != axes + 1:
            kinds = {3: "flat", 4: "a volume"}
            reason = f"the image is {kinds.get(image.pixels.ndim, 'of other axes')}"
            raise BadText(reason, f"data.image has {axes} axes")
        factors = self.factors(image)
        values = with_channels(shown(image, self.window), self.channels)
        return quantised(fitted(values, self.image, self.fit, factors), self.bits)

    def factors(self, image: Image) -> tuple[float, ...]:
        """New pixels for an old one along each axis, where `spacing` asks for millimetres; else ().

        Raises:
            BadText: the image has no spacing in mm.
        """
        if not self.spacing:
            return ()
        if not image.spacing:
            raise BadText("the file says no pixel spacing in mm", "leave data.spacing empty")
        return tuple(there / new for there, new in zip(image.spacing, self.spacing))

    def lengths(self) -> Lengths:
        """See `DataSpec`: an image is one token, and alone in its row."""
        return Lengths(1.0, 1.0)

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many images."""
        images = jax.ShapeDtypeStruct((rows, *self.shape), self.dtype)
        return batch_shapes(rows, 1, 1).replace(images=images)

    def row_builder(self, store: ImageStore, batch_size: int, seed: int) -> ImageRows:
        """What builds batches of `batch_size` images."""
        return ImageRows(store, 1, 1, batch_size, seed)

    def source_path(self) -> Path:
        """The file or folder that `path` names.

        Raises:
            UserError: `path` is empty, or uses an environment variable that is not set.
        """
        if not self.path:
            raise UserError("data.path is empty; name a folder of images with --data.path FOLDER")
        return expanded(self.path, "data.path")

    def recorded(self) -> dict[str, object]:
        """The fields that decide the stored pixels and records: they stand in the metadata."""
        names = ("image", "channels", "fit", "spacing", "window", "volumes", "bits", "split")
        found = {name: getattr(self, name) for name in (*names, "captions")}
        return json.loads(json.dumps(found | {"columns": dataclasses.asdict(self.columns)}))

    def prepare(self, out: str | Path) -> Path:
        """Read every image of `path` and write the store to the folder `out`.

        Raises:
            UserError: `out` exists, the source cannot be read, or too many records are bad; all of
                them are then listed in `<out>.bad_records.jsonl`.
        """
        source, out = self.source_path(), Path(out)
        if out.exists():
            raise UserError(f"{out}: exists already; delete it or name another folder")
        bad = BadRecords(str(source))
        other = collections.Counter()
        cut = Cut(len(self.image), self.volumes == "neighbours")
        records = read_image_records(
            source,
            bad,
            self.columns,
            captions=self.captions,
            cut=cut,
            other=lambda ending: other.update([ending]),
        )
        asked = self.split.casefold()
        kept = [
            r
            for r in records
            if (r.split.casefold() == asked if asked else r.split.casefold() not in HELD)
        ]
        if records and not kept:
            raise UserError(f"{source}: no record is of split {self.split!r}")
        about = {"kind": self.kind, "source": source.name, **self.recorded()}
        about |= {"left_out": len(records) - len(kept), "other_files": dict(other)}
        publish_images(out, kept, self._load, self.shape, self.dtype, bad, self.tolerance, about)
        return out

    def _load(self, record: ImageRecord) -> tuple[np.ndarray, Image]:
        found = record.picture.read()
        return self.pixels(found), found

    def open(self) -> ImageStore:
        """All images as a memory map, made in the cache on first use.

        Raises:
            UserError: as `prepared`.
        """
        return open_images(self.prepared())

    def prepared(self) -> Path:
        """The prepared folder of `path`, made in the cache on first use.

        Raises:
            UserError: `path` is a folder prepared with other fields, or as `prepare`.
        """
        path = self.source_path()
        if (path / "metadata.json").is_file():  # whoever prepared it chose the tolerance then
            return self._checked(path)
        folder = _cache(path, self.kind, self.recorded())
        if not folder.is_dir():
            try:
                self.prepare(folder)
            except UserError:
                if not folder.is_dir():  # else another process has made it meanwhile
                    raise
        about = json.loads((folder / "metadata.json").read_text())
        total = about["bad"] + about["count"]
        if about["bad"] > self.tolerance * total:
            raise UserError(
                f"{path}: {about['bad']} of {total} records are bad, listed in "
                f"{folder / 'bad_records.jsonl'}. {tolerance_advice(about['bad'], total)}"
            )
        return folder

    def _checked(self, folder: Path) -> Path:
        about = json.loads((folder / "metadata.json").read_text())
        if about.get("kind") != self.kind:
            raise UserError(f"{folder}: holds {about.get('kind')} records, not {self.kind}")
        if self.captions and not about["captions"]:
            fix = "prepare it with `biofm data prepare imaging ... --captions True`"
            raise UserError(f"{folder}: prepared without captions; {fix}")
        for name, value in self.recorded().items():
            there = about[name]
            if name not in ("columns", "split", "captions") and there != value:
                words, asked = (
                    " ".join(map(str, each)) if isinstance(each, list) else each
                    for each in (there, value)
                )
                raise UserError(
                    f"{folder}: prepared with {name} {words}, and data.{name} is {asked}; give "
                    f"--data.{name} {words}, or prepare it again"
                )
        return folder

    def batches(
        self,
        store: ImageStore,
        *,
        batch_size: int,
        seed: int,
        share: np.ndarray | None = None,
        epochs: int | None = None,
        holdout: bool = False,
    ) -> BatchIterator:
        """Batches of this host, for training or for the validation loss; see `DataSpec.batches`.

        Raises:
            UserError: no record is on the side asked for.
        """
        return split_batches(self, store, batch_size, seed, share, epochs, holdout)


def _cache(path: Path, kind: str, recorded: dict) -> Path:
    """Where the prepared form of a source is cached: by names, sizes and times of its files.

    The content of a large folder would take minutes to read at each start.
    """
    root = os.environ.get("BIOFM_CACHE") or Path.home() / ".cache" / "biofm_jax"
    files = [path]
    if path.is_dir():
        files = sorted(path.rglob("*"))
    elif file_ending(path) in TABLE_ENDINGS:  # the images lie beside it
        files += sorted(file for name in FOLDERS for file in (path.parent / name).glob("*"))
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    seen = [
        [str(f.relative_to(path.parent)), (s := f.stat()).st_size, s.st_mtime_ns]
        for f in files
        if f.exists()  # not a link to what is gone
    ]
    key = json.dumps([FORMAT, kind, str(path.resolve()), seen, recorded]).encode()
    return Path(root) / "prepared" / f"{kind}-{hashlib.sha256(key).hexdigest()[:20]}"
