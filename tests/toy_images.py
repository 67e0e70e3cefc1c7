"""Small image files of every format, for tests."""

from pathlib import Path

import numpy as np


def gradient(h: int, w: int, c: int = 3, seed: int = 0) -> np.ndarray:
    """(h, w, c) uint8, no two seeds alike."""
    ramp = np.add.outer(np.arange(h) * 5, np.arange(w) * 3)[..., None] + np.arange(c) * 40
    return ((ramp + seed * 17) % 256).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write (h, w, c) by Pillow, lossless but for .jpg."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
    return path


def folder_of_classes(root: Path, count: int = 12, size: tuple[int, int] = (10, 12)) -> Path:
    """`count` PNG files in two class folders."""
    for number in range(count):
        label = ("normal", "tumour")[number % 2]
        save(root / label / f"{number:03}.png", gradient(*size, seed=number))
    return root


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    *,
    position: tuple[float, float, float] | None = (0.0, 0.0, 0.0),
    orientation: tuple[float, ...] | None = (1, 0, 0, 0, 1, 0),
    spacing: tuple[float, float] | None = (0.5, 0.25),
    series: str = "1.2.3",
    **fields,
) -> Path:
    """One uncompressed DICOM file of (h, w) integers; `fields` are its elements by keyword."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    data.Modality, data.SeriesInstanceUID = "CT", series
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if position is not None:
        data.ImagePositionPatient = list(position)
    if orientation is not None:
        data.ImageOrientationPatient = list(orientation)
    if spacing is not None:
        data.PixelSpacing = list(spacing)
    for name, value in fields.items():
        setattr(data, name, value)
    data.PixelData = np.ascontiguousarray(pixels).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """A NIfTI-1 file of (i, j, k) voxels."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path
