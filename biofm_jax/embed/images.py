"""Images to embed: a folder, table or file of them, checked once, then read in parts."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.image_folders import Cut
from biofm_jax.data.image_records import ImageColumns, read_image_records
from biofm_jax.data.image_store import ImageExample
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.pictures import Picture
from biofm_jax.data.readers import Record
from biofm_jax.embed.source import MOST, Survey
from biofm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """The images of a folder or file, in the order of `read_image_records`.

    Attributes:
        path: what `ImageData.path` may name.
        data: brings images to the model's size.
        column: of a table, with the file; empty takes the first known name.
    """

    path: Path
    data: ImageData
    column: str = ""

    def records(self, bad: BadRecords) -> list[Record]:
        """All images, not read; `line` counts them from 1, `text` is a `Picture`."""
        cut = Cut(len(self.data.image), self.data.volumes == "neighbours")
        columns = ImageColumns(file=self.column)
        found = read_image_records(self.path, bad, columns, cut=cut)
        return [
            Record(number, str(each.picture), each.picture) for number, each in enumerate(found, 1)
        ]

    def digest(self) -> str:
        """SHA-256 of the names and bytes of all files, in hex digits."""
        digest = hashlib.sha256()
        pictures = [record.text for record in self.records(BadRecords(str(self.path)))]
        files = {str(picture).partition("#")[0]: picture.file for picture in pictures}
        for name, file in files.items():
            digest.update(name.encode() + b"\0")
            parts = sorted(file.glob("*")) if file.is_dir() else [file]  # a DICOM series
            for part in filter(Path.is_file, parts):
                digest.update(hashlib.sha256(part.read_bytes()).digest())
        return digest.hexdigest()

    def parts(self, pixels: int, leave_out: frozenset[int]) -> Iterator[list[Record]]:
        """Images in order, a part at a time; the same parts on every call.

        Args:
            pixels: of a part of more than one image, at most, as the model reads them.
            leave_out: numbers of images that are bad.
        """
        size = min(MOST, max(1, pixels // math.prod(self.data.image)))
        records = [
            record
            for record in self.records(BadRecords(str(self.path)))
            if record.line not in leave_out
        ]
        for start in range(0, len(records), size):
            yield records[start : start + size]

    def tokenized(self, part: list[Record]) -> list[ImageExample]:
        """The pixels of good images."""
        example = self.data.to_example()
        return [example(record.text) for record in part]

    def survey(self, *, tolerance: float, listing: Path | None) -> Survey:
        """Read every image before a model sees the first.

        Args:
            tolerance: share of bad images, 0 to 1, with which to go on.
            listing: file that gets the list of bad images, if there are any.

        Raises:
            UserError: no image, or too many bad ones.
        """
        bad = BadRecords(str(self.path))
        seen: set[str] = set()
        left_out: list[int] = []
        records = self.records(bad)
        for record in records:
            try:
                if record.id in seen:
                    raise BadText("the image is named twice", "drop one of the rows")
                seen.add(record.id)
                self._read(record.text)
            except BadText as error:
                bad.of(record.text.root / record.text, error)
                left_out.append(record.line)
        good = len(records) - len(left_out)
        bad.check(good, tolerance, listing)
        if bad.records and listing is not None:
            bad.write(listing)
        return Survey(good, good, 1, 0, tuple(left_out))

    def _read(self, picture: Picture) -> None:
        self.data.pixels(picture.read())


def refuse_text_options(long: str, id_column: str) -> None:
    """Refuse what is for texts.

    Raises:
        UserError: names the option.
    """
    if id_column:
        raise UserError(f"--id-column {id_column}: the id of an image is its file's name")
    if long != "window":
        raise UserError(f"--long {long}: an image has the model's size")
