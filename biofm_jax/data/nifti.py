"""NIfTI files to volumes in RAS, with the spacing of their voxels in mm."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.orientation import in_ras, turn
from biofm_jax.data.pixels import Image

ENDINGS = (".nii", ".nii.gz")
MILLIMETRES = {1: 1000.0, 3: 0.001}  # of the header's units of length: metre, micrometre


def read_nifti(path: Path, member: str = "") -> Image:
    """A volume turned to the patient's axes, slope and intercept of the header applied.

    No text field of the header is read: description and file names may tell of a person.

    Args:
        path: .nii or .nii.gz, NIfTI-1 or -2.
        member: "".

    Returns:
        (z, y, x, c): z to the head, y to the front, x to the right. A fourth axis of the file
        (contrasts of one scan, time points) are its channels.

    Raises:
        BadText: the file is cut short or damaged, has other axes, or an affine that is singular.
    """
    with _damage():
        image = _nibabel().load(path)
        if not 3 <= len(image.shape) <= 4 or 0 in image.shape:
            raise BadText(f"it has axes of sizes {image.shape}", "save a volume of three axes")
        raw = np.asarray(image.dataobj)
        if raw.dtype.names:  # RGB24
            raw = np.stack([raw[name] for name in raw.dtype.names[:3]], axis=-1)
        elif raw.dtype == np.uint8:
            raw = raw.astype(np.int16)  # a measurement, not a picture's 0 to 255
        if raw.ndim == 3:
            raw = raw[..., None]
        if raw.dtype.kind == "c":
            raise BadText("its voxels are complex numbers", "save the magnitude")
        native = raw.dtype.newbyteorder("=")
        values = raw.astype(np.float32 if native.itemsize > 4 else native)
        zooms = _voxel_size(path, image)
        known = np.isfinite(zooms).all() and (zooms > 0).all()
        spacing = tuple(zooms[::-1].tolist()) if known else ()
        affine = np.asarray(image.affine, np.float64)
    pixels = np.transpose(values, (2, 1, 0, 3))
    return in_ras(Image(pixels, spacing), affine[:3, :3].T[::-1])


def nifti_slices(path: Path) -> int:
    """Slices from foot to head, by the header alone.

    Raises:
        BadText: as `read_nifti`.
    """
    with _damage():
        image = _nibabel().load(path)
        shape = image.shape[:3]
        affine = np.asarray(image.affine, np.float64)
    if len(shape) < 3:
        raise BadText(f"it has axes of sizes {shape}", "save a volume of three axes")
    order, _ = turn(affine[:3, :3].T[::-1])
    return int(shape[::-1][order[0]])


def _voxel_size(path: Path, image) -> np.ndarray:
    """(3,) mm as the file has it; nibabel's own header has 1 in the place of 0."""
    with _nibabel().openers.ImageOpener(path) as file:
        header = type(image.header).from_fileobj(file, check=False)
    unit = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    return np.abs(np.asarray(header["pixdim"][1:4], np.float64)) * unit


def _nibabel():
    try:
        import nibabel
    except ImportError:
        raise BadText("NIfTI needs nibabel", "pip install 'biofm_jax[imaging]'") from None
    return nibabel


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """What nibabel raises over a damaged file, by its kind."""
    try:
        yield
    except BadText:
        raise
    except Exception as error:  # damaged bytes raise anything
        reason = f"the NIfTI file is cut short or damaged ({type(error).__name__})"
        raise BadText(reason, "fetch it again, or drop it") from None
