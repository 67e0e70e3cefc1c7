"""A picture as text: a reference that is the same on every machine, and how to read it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.npz_images import read_npz
from biofm_jax.data.pixels import Image, shown
from biofm_jax.data.raster import read_raster
from biofm_jax.errors import UserError

Reader = Callable[[Path, str], Image]  # of a file and of what stands behind `#`

RASTER_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
READERS: dict[str, Reader] = {ending: read_raster for ending in RASTER_ENDINGS} | {".npz": read_npz}


class Picture(str):
    """One image by its file, and by what stands behind `#` where a file holds many.

    Such as `imaging/ebhi_colorectal/images/Normal_06.jpg`, or
    `imaging/pneumoniamnist/A.npz#test_images/17`. It is text, so that a task's items are hashed,
    split and listed as those of any modality.

    Attributes:
        root: the folder that the text is relative to; no part of it.
    """

    root: Path

    def __new__(cls, reference: str, root: str | Path = ""):
        """A picture of `reference` under the folder `root`."""
        made = super().__new__(cls, reference)
        made.root = Path(root)
        return made

    def __getnewargs__(self):
        return str(self), self.root

    @property
    def file(self) -> Path:
        """Where it is on this machine."""
        return self.root / self.partition("#")[0]

    def read(self) -> Image:
        """The image as the file has it.

        Raises:
            BadText: the file is absent, damaged or of unknown ending.
        """
        file, member = self.file, self.partition("#")[2]
        if not file.exists():
            raise BadText("there is no such file", "check the name, or drop the record")
        return reader_of(file)(file, member)

    def pixels(self, window: tuple[float, ...] = ()) -> np.ndarray:
        """(h, w, c) or (z, h, w, c), uint8 or uint16, as a viewer shows it; see `pixels.shown`.

        Raises:
            UserError: it cannot be read; the message names the file.
        """
        try:
            return shown(self.read(), window)
        except BadText as error:
            raise UserError(f"{self.root / self}: {error.reason}; {error.fix}") from error


def image_ending(path: Path) -> str:
    """The ending that names the format, lower case; `.gz` stays with what is before it."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def reader_of(path: Path) -> Reader:
    """What reads a file, by its ending.

    Raises:
        BadText: the ending is of no image.
    """
    try:
        return READERS[image_ending(path)]
    except KeyError:
        known = ", ".join(READERS)
        raise BadText(f"unknown ending {image_ending(path)!r}", f"rename to {known}") from None
