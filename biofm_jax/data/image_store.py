"""Images of a data set in a memory map, and batches of them of fixed shape."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.batch import Batch
from biofm_jax.data.image_folders import ImageRecord
from biofm_jax.data.pipeline import RowBuilder
from biofm_jax.data.pixels import Image
from biofm_jax.data.token_store import TokenStore, group_hash, npy_header, publish
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError

FORMAT = 2  # raised when the same source would give other files below
CHUNK = 64  # images that are read at a time
PIXELS, RECORDS = "pixels.npy", "records.jsonl"

Loaded = tuple[np.ndarray, Image]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageExample:
    """One image, which takes the place of one token.

    Attributes:
        pixels: (h, w, c) or (z, h, w, c), uint8 or uint16.
    """

    pixels: np.ndarray

    def __len__(self) -> int:
        return 1


@functools.cache
def image_vocabulary() -> Vocabulary:
    """Of the one token that stands for an image."""
    return Vocabulary.of(("<pad>",))


@dataclasses.dataclass(frozen=True)
class ImageStore(TokenStore):
    """The images of a data set; each record is one token of `TokenStore`.

    Attributes:
        pixels: (m, [z,] h, w, c) uint8 or uint16. Records that name one file share an image.
        image: (records,) number of each record's image.
        contents: (m,) uint64 hash of the pixels of each image.
        records: {"id", "label", "group", "split", "caption"} of each, all text.
    """

    pixels: np.ndarray
    image: np.ndarray
    contents: np.ndarray
    records: Sequence[dict[str, str]]

    @classmethod
    def from_examples(cls, examples: Sequence[ImageExample]) -> "ImageStore":
        """A store in memory; the name of a record is its number.

        Args:
            examples: at least one, all of one shape and type.
        """
        pixels = np.stack([example.pixels for example in examples])
        count = len(pixels)
        return cls(
            **_tokens(np.zeros(count, np.uint64), lambda rows: [str(row) for row in rows]),
            pixels=pixels,
            image=np.arange(count),
            contents=np.zeros(count, np.uint64),
            records=[{} for _ in range(count)],
        )

    def digest(self) -> str:
        """A fingerprint of the records and of all pixels."""
        parts = (self.hashes, self.image, self.contents)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ImageRows(RowBuilder):
    """Builds batches with the field `images` from an `ImageStore`: one image a row."""

    store: ImageStore

    def _view(self, sequence, visits, placement, columns, examples, salt) -> Batch:
        batch = super()._view(sequence, visits, placement, columns, examples, salt)
        pixels, rows = self.store.pixels, placement[:, 0]
        images = np.empty((self.batch_size, *pixels.shape[1:]), pixels.dtype)
        images[np.setdiff1d(np.arange(self.batch_size), rows)] = 0
        for row, number in zip(rows, self.store.image[sequence]):
            images[row] = pixels[number]  # one copy; an index array would make another
        return batch.replace(images=images)


def publish_images(
    out: Path,
    records: Sequence[ImageRecord],
    load: Callable[[ImageRecord], Loaded],
    shape: tuple[int, ...],
    dtype: np.dtype,
    bad: BadRecords,
    tolerance: float,
    about: dict,
) -> None:
    """Write a prepared folder of images, whole or not at all.

    Args:
        out: the folder; its bad records are listed in `<out>.bad_records.jsonl` if it is not made.
        records: see `write_images`, as the four behind.
        load: see `records`.
        shape: see `records`.
        dtype: see `records`.
        bad: those found so far.
        tolerance: share of bad records with which it is made.
        about: its metadata; counts are added.

    Raises:
        UserError: `out` exists, or too many records are bad.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; delete it or name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    listing = out.with_name(out.name + ".bad_records.jsonl")
    try:
        count, kinds = write_images(temporary, records, load, shape, dtype, bad)
        bad.check(count, tolerance, listing)
        bad.write(temporary / "bad_records.jsonl")
        counts = {"format": FORMAT, "count": count, "bad": len(bad.records), "images": kinds}
        (temporary / "metadata.json").write_text(json.dumps(about | counts))
        publish(temporary, out)
        listing.unlink(missing_ok=True)  # of an earlier run that stopped
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_images(
    folder: Path,
    records: Sequence[ImageRecord],
    load: Callable[[ImageRecord], Loaded],
    shape: tuple[int, ...],
    dtype: np.dtype,
    bad: BadRecords,
) -> tuple[int, list[dict]]:
    """Read all images and write a store's files into a folder.

    Args:
        folder: is there already.
        records: of a data set.
        load: gives the pixels of an image in the shape `shape`, and the image that its reader
            gave; or raises `BadText`.
        shape: ([z,] h, w, c).
        dtype: uint8 or uint16.
        bad: gets what cannot be read, by file.

    Returns:
        How many records are good, and how many images are of which {"sizes", "type", "spaced"}.
    """
    images: dict[str, int] = {}  # reference -> number; -1 where it is bad
    contents: list[int] = []
    kinds: collections.Counter[tuple] = collections.Counter()
    with open(folder / PIXELS, "wb") as file:
        npy_header(file, (0, *shape), dtype)  # written again at the end
        distinct = {str(record.picture): record for record in records}.values()
        for record, found in _loaded(distinct, load):
            if isinstance(found, BadText):
                images[str(record.picture)] = -1
                bad.of(record.picture.root / record.picture, found)
                continue
            images[str(record.picture)] = len(contents)
            pixels, source = found
            kinds[source.pixels.shape, str(source.pixels.dtype), bool(source.spacing)] += 1
            content = np.ascontiguousarray(pixels, dtype).tobytes()
            contents.append(
                int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
            )
            file.write(content)
        file.seek(0)
        npy_header(file, (len(contents), *shape), dtype)
    kept = [record for record in records if images[str(record.picture)] >= 0]
    numbers = np.array([images[str(record.picture)] for record in kept], np.int64)
    np.save(folder / "image.npy", numbers)
    np.save(folder / "contents.npy", np.array(contents, np.uint64))
    hashes = [
        group_hash(record.group) if record.group else contents[number]
        for record, number in zip(kept, numbers)
    ]
    np.save(folder / "hashes.npy", np.array(hashes, np.uint64))
    with open(folder / RECORDS, "w") as file:
        for record in kept:
            row = {"id": str(record.picture), "label": record.label, "group": record.group}
            row |= {"split": record.split, "caption": record.caption}
            file.write(json.dumps(row) + "\n")
    return len(kept), [
        {"sizes": sizes, "type": kind, "spaced": spaced, "images": count}
        for (sizes, kind, spaced), count in kinds.most_common()
    ]


def open_images(folder: Path) -> ImageStore:
    """The store that `write_images` wrote."""
    records = [json.loads(line) for line in (folder / RECORDS).read_text().splitlines()]
    return ImageStore(
        **_tokens(np.load(folder / "hashes.npy"), lambda rows: [records[r]["id"] for r in rows]),
        pixels=np.load(folder / PIXELS, mmap_mode="r"),
        image=np.load(folder / "image.npy"),
        contents=np.load(folder / "contents.npy"),
        records=records,
    )


def _tokens(hashes: np.ndarray, names: Callable[[Sequence[int]], list[str]]) -> dict:
    """The fields of a `TokenStore` of one token a record."""
    count = len(hashes)
    return {
        "ids": np.zeros(count, np.uint8),
        "offsets": np.arange(count + 1),
        "hashes": hashes,
        "views": 1,
        "vocabulary": image_vocabulary(),
        "names": names,
    }


def _loaded(
    records: Iterable[ImageRecord], load: Callable[[ImageRecord], Loaded]
) -> Iterator[tuple[ImageRecord, Loaded | BadText]]:
    """Each record with its pixels or with what is wrong, in order; decoders run in threads."""

    def attempt(record: ImageRecord) -> Loaded | BadText:
        try:
            return load(record)
        except BadText as error:
            return error

    waiting = iter(records)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(itertools.islice(waiting, CHUNK)):
            yield from zip(chunk, pool.map(attempt, chunk))
