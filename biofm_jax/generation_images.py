"""Images that a captioner writes from: of files, or those that its run held out."""

import collections
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.image_caption import ImageCaptionData
from biofm_jax.data.image_folders import Cut
from biofm_jax.data.image_records import read_image_records
from biofm_jax.data.image_store import ImageExample, open_images
from biofm_jax.data.pairs import PairStore
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError
from biofm_jax.evaluate.captions import caption_report, nearest_images


class Shown(Sequence):
    """n images, each read when it is asked for.

    Attributes:
        names: of each, all different.
        digest: 16 hex digits of names and pixels.
    """

    def __init__(self, names: list[str], load: Callable[[int], ImageExample], digest: str):
        self.names, self.digest = names, digest
        self._load = functools.lru_cache(maxsize=1)(load)  # its copies stand side by side

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> ImageExample:
        return self._load(number)


class Repeated(Sequence):
    """Each item of a sequence so many times."""

    def __init__(self, items: Sequence, times: int):
        self._items, self._times = items, times

    def __len__(self) -> int:
        return len(self._items) * self._times

    def __getitem__(self, number: int):
        return self._items[number // self._times]


def read_images(data: ImageCaptionData, paths: Sequence[Path]) -> Shown:
    """The images of folders, tables and files, all read once to see that they can be.

    Of a table that names an image for each of its captions the image is taken once.

    Args:
        data: brings images to the model's size.
        paths: what `ImageData.path` may name. Of several, names begin with that of their own.

    Raises:
        UserError: no image, one that cannot be read, or two of one name.
    """
    cut = Cut(len(data.image), data.volumes == "neighbours")
    pictures: dict[str, Picture] = {}
    digest = hashlib.sha256()
    for path in paths:
        bad, good = BadRecords(str(path)), 0
        found = {str(r.picture): r.picture for r in read_image_records(path, bad, cut=cut)}
        for reference, picture in found.items():
            front = f"{path.name}/" if len(paths) > 1 and path.is_dir() else ""
            try:
                pixels = data.pixels(picture.read())
            except BadText as error:
                bad.of(picture.root / picture, error)
                continue
            good += 1
            if front + reference in pictures:
                raise UserError(
                    f"two images are named {front + reference}; give their folders one by one"
                )
            pictures[front + reference] = picture
            digest.update(f"{front}{reference}\0".encode() + pixels.tobytes())
        bad.check(good, 0.0, None)
    example, all_ = data.to_example(), list(pictures.values())
    return Shown(list(pictures), lambda number: example(all_[number]), digest.hexdigest()[:16])


def captions_of(data: ImageCaptionData) -> Iterator[str]:
    """All captions of a data set.

    Raises:
        UserError: it cannot be read.
    """
    return (row["caption"].strip() for row in open_images(data.prepared()).records)


class HeldOut:
    """The images that a run held out, with their captions and those it was trained on.

    Attributes:
        shown: the images, in the order of the data.
    """

    def __init__(self, data: ImageCaptionData, name: str):
        """Open the data of a run.

        Raises:
            UserError: it held nothing out, or the data cannot be read.
        """
        if not data.holdout:
            raise UserError(f"{name} held no images out (data.holdout is 0): give --images FOLDER")
        self._store: PairStore = data.open()
        images = self._store.first
        self._held, self._train = (
            self._captions(self._store.split(data.holdout, held=held)) for held in (True, False)
        )
        if not self._held or not self._train:
            side = "held out" if not self._held else "left to train on"
            raise UserError(f"{data.path}: no image is {side}; give --images FOLDER")
        self._numbers = list(self._held)
        first = dict(zip(images.image[::-1].tolist(), range(len(images) - 1, -1, -1)))
        names = images.names([first[number] for number in self._numbers])
        contents = images.contents[self._numbers].tobytes()
        digest = hashlib.sha256("\0".join(names).encode() + contents).hexdigest()[:16]
        self.shown = Shown(
            names, lambda n: ImageExample(np.asarray(images.pixels[self._numbers[n]])), digest
        )

    def _captions(self, records: np.ndarray) -> dict[int, list[str]]:
        """Image -> captions, of some records."""
        images, found = self._store.first, collections.defaultdict(list)
        for record in records.tolist():
            found[int(images.image[record])].append(images.records[record]["caption"])
        return dict(found)

    def scored(self, written: dict[str, list[str]]) -> dict:
        """See `caption_report`.

        Args:
            written: texts by the name of their image.
        """
        train, pixels = np.array(list(self._train)), self._store.first.pixels
        return caption_report(
            [written[name] for name in self.shown.names],
            list(self._held.values()),
            list(self._train.values()),
            nearest_images(pixels, np.array(self._numbers), train),
        )
