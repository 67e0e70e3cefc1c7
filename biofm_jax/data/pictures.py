"""A picture as text: a reference that is the same on every machine, and how to read it."""

import dataclasses
import functools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from biofm_jax.data import dicom, dicom_series, nifti, npz_images, raster, slides
from biofm_jax.data.bad_records import BadText
from biofm_jax.data.pixels import Image, shown
from biofm_jax.data.volumes import cut, one_slice
from biofm_jax.errors import UserError

RASTER_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of one kind are read.

    Attributes:
        read: the image or volume of a file, and of what stands behind `#` before a slice.
        slices: how many slices it has, from its header where there is one; 0 of a flat image.
    """

    read: Callable[[Path, str], Image]
    slices: Callable[[Path, str], int]


def _dicom_slices(path: Path, member: str) -> int:
    if member:
        return dicom_series.series_slices(path, member)
    frames = dicom.read_elements(path, pixels=False).frames
    return frames if frames > 1 else 0


RASTER = Format(raster.read_raster, lambda path, member: raster.raster_pages(path))
NPZ = Format(npz_images.read_npz, npz_images.npz_slices)
NIFTI = Format(nifti.read_nifti, lambda path, member: nifti.nifti_slices(path))
# Frames as they are stored, or behind "series/0" as a volume in the patient's axes.
DICOM = Format(
    lambda path, member: (
        dicom_series.read_series(path, member) if member else dicom.read_dicom(path)
    ),
    _dicom_slices,
)
SERIES = Format(dicom_series.read_series, dicom_series.series_slices)
FORMATS: dict[str, Format] = {
    **{ending: RASTER for ending in RASTER_ENDINGS},
    **{ending: DICOM for ending in dicom.ENDINGS},
    **{ending: NIFTI for ending in nifti.ENDINGS},
    ".npz": NPZ,
}


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
        file = self.file
        if not file.exists():
            raise BadText("there is no such file", "check the name, or drop the record")
        if self.partition("#")[2].startswith(f"{slides.TILE}/"):
            return slides.read_tile(file, self.partition("#")[2])
        member, kind, number = cut(self.partition("#")[2])
        if not kind:
            return format_of(file).read(file, member)
        with _one_volume:
            volume = _volume(file, member, file.stat().st_mtime_ns)
        return one_slice(volume, kind, number)

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
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def format_of(path: Path) -> Format:
    """How a file is read, by its ending; without one, by its first bytes; a folder is a series.

    Raises:
        BadText: it is no image.
    """
    if path.is_dir():
        return SERIES
    ending = image_ending(path)
    if ending in FORMATS:
        return FORMATS[ending]
    if dicom.is_dicom(path):
        return DICOM
    raise BadText(f"unknown ending {ending!r}", f"rename to one of {', '.join(FORMATS)}")


_one_volume = threading.Lock()  # slices are read by threads, of the same volume mostly


@functools.lru_cache(maxsize=2)
def _volume(file: Path, member: str, changed: int) -> Image:
    return format_of(file).read(file, member)
