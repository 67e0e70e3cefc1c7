"""DICOM files to pixel arrays; nothing that names a person leaves this module.

Only the elements of `ELEMENTS` are parsed: name, birth date and the like are skipped as bytes. The
patient's identifier tells which images belong together, and is given as a number to others. Reasons
name the kind of an error, never its text, which may quote a value.
"""

import contextlib
import dataclasses
import functools
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.dicom_frames import grouped, rescaled
from biofm_jax.data.pixels import Image

ENDINGS = (".dcm", ".dicom", ".ima")
INDEX = "DICOMDIR"
LACKING = ("missing dependencies", "does not support")  # of pydicom's message over a decoder
DECODERS = (
    "pip install 'biofm_jax[imaging]', for JPEG of 12 bits pylibjpeg-libjpeg and for HTJ2K "
    "pylibjpeg-openjpeg too; or decompress it"
)
MAGIC = b"DICM"  # behind 128 bytes of preamble

LOOKS = """Rows Columns SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated
BitsStored HighBit PixelRepresentation NumberOfFrames PixelAspectRatio Modality SOPClassUID
RescaleSlope RescaleIntercept ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth
VOILUTFunction PixelPaddingValue PixelPaddingRangeLimit RedPaletteColorLookupTableDescriptor
GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor
RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
SegmentedBluePaletteColorLookupTableData ExtendedOffsetTable ExtendedOffsetTableLengths"""
PLACE = """ImageOrientationPatient ImagePositionPatient PixelSpacing ImagerPixelSpacing
NominalScannedPixelSpacing SliceThickness SpacingBetweenSlices InstanceNumber
SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"""
NUMBERED = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID"]  # told apart, and never written
ELEMENTS = LOOKS.split() + PLACE.split() + NUMBERED
# Modalities (PS3.3 C.7.3.1.1.1) that an error names; any other text may be of a person.
IMAGELESS = "AU DOC ECG EEG FID HD KO PLAN PR REG RTPLAN RTRECORD RTSTRUCT SR"
PIXELS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData"]


class NoImage(BadText):
    """A DICOM object of another kind: a report, a plan, contours."""


@dataclasses.dataclass(frozen=True, eq=False)
class DicomFile:
    """One file of known elements.

    Attributes:
        path: of the file.
        elements: pydicom's data set of `ELEMENTS`, and of the pixels where they were asked for.
    """

    path: Path
    elements: object

    @property
    def frames(self) -> int:
        """Images in the file; 1 or more."""
        return max(1, int(self.elements.get("NumberOfFrames") or 1))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.elements.get("Rows", 0)), int(self.elements.get("Columns", 0))

    def vector(self, name: str, count: int) -> np.ndarray | None:
        """A field of `count` numbers, here or in the functional groups; None where absent."""
        value = self.elements.get(name)
        if value is None:
            value = grouped(self.elements, name)
        if value is None:
            return None
        values = np.asarray(value, np.float64).reshape(-1)
        return values if len(values) == count and np.isfinite(values).all() else None

    @property
    def pixel_spacing(self) -> tuple[float, ...]:
        """mm between rows and between columns; () where none is told.

        That of a radiograph without calibration is at its detector, some 10 % too large.
        """
        for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            values = self.vector(name, 2)
            if values is not None and (values > 0).all():
                return tuple(values.tolist())
        return ()

    @property
    def slice_spacing(self) -> float:
        """mm between slices or frames by the file itself; 0 where none is told."""
        for name in ("SpacingBetweenSlices", "SliceThickness"):
            values = self.vector(name, 1)
            if values is not None and values[0] > 0:
                return float(values[0])
        return 0.0


def is_dicom(path: Path) -> bool:
    """Whether a file is of DICOM by its ending, or without one by its first bytes."""
    if path.suffix.lower() in ENDINGS:
        return path.name != INDEX
    if path.name == INDEX or (path.suffix and not path.suffix[1:].isdigit()):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == MAGIC
    except OSError:
        return False


def read_elements(path: Path, pixels: bool) -> DicomFile:
    """The elements that this module reads.

    Args:
        path: a DICOM file, with or without its preamble.
        pixels: whether to read the pixels' bytes too.

    Raises:
        BadText: it is none, is cut short, or holds no image.
    """
    pydicom = _pydicom()
    wanted = ELEMENTS + (PIXELS if pixels else [])
    with _nameless():
        elements = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=wanted)
        elements.file_meta  # noqa: B018  a file without has none
        if not elements.get("Rows") or (pixels and not any(name in elements for name in PIXELS)):
            modality = elements.get("Modality")
            modality = modality if modality in IMAGELESS.split() else "unknown"
            raise NoImage(f"the DICOM file holds no image (modality {modality})", "leave it out")
        return DicomFile(path, elements)


def read_dicom(path: Path, member: str = "") -> Image:
    """The pixels of one file in its own unit, with window and spacing.

    Rescale slope and intercept or the modality's table are applied; colour comes as RGB, a palette
    looked up. The window is the first of the file; a table or a sigmoid in its place is applied
    where no other window is asked for. Padding outside the field of view becomes the value that is
    shown darkest.

    Args:
        path: a DICOM file.
        member: "".

    Returns:
        (h, w, c), or (z, h, w, c) of several frames.

    Raises:
        BadText: it cannot be read, or its compression needs a decoder that is not installed.
    """
    found = read_elements(path, pixels=True)
    elements = found.elements
    with _nameless(_syntax(elements)):
        from pydicom.pixels import apply_color_lut, apply_modality_lut

        values = elements.pixel_array
        if found.frames == 1 and values.ndim == 3 and elements.get("SamplesPerPixel", 1) == 1:
            values = values[0]
        kind = elements.get("PhotometricInterpretation", "")
        spacing = found.pixel_spacing
        if found.frames > 1 and spacing:
            spacing = (found.slice_spacing, *spacing) if found.slice_spacing else ()
        if kind == "PALETTE COLOR":
            values = apply_color_lut(values, elements)
            if values.dtype == np.uint16:  # entries of 16 bits
                values = (values >> 8).astype(np.uint8)
            return Image(values, spacing)
        if int(elements.get("SamplesPerPixel", 1)) > 1:
            return Image(_bytes(values, elements), spacing)
        padding = _padding(values, elements)
        units = values[..., None]
        if not _unscaled(elements):
            units = np.asarray(apply_modality_lut(units, elements))
            units = units.astype(np.float32) if units.dtype == np.float64 else units
        elif "RescaleSlope" not in elements:
            units = rescaled(units, elements)
        window = _window(elements)
        if units.dtype == np.uint8 and not window:
            window = (0.0, 2.0 ** int(elements.get("BitsStored", 8)) - 1)
        if padding is not None and padding.any() and not padding.all():
            units = units.copy()
            inside = units[~padding]
            units[padding] = inside.max() if kind == "MONOCHROME1" else inside.min()
        return Image(
            pixels=units,
            spacing=spacing,
            window=window,
            inverted=kind == "MONOCHROME1",
            voi=_curve(units, elements),
        )


def _pydicom():
    try:
        import pydicom
    except ImportError:
        raise BadText("DICOM needs pydicom", "pip install 'biofm_jax[imaging]'") from None
    _silence(pydicom)
    return pydicom


@functools.cache
def _silence(pydicom) -> None:
    """Messages of pydicom quote values of fields; they go nowhere."""
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").addHandler(logging.NullHandler())
    logging.getLogger("pydicom").propagate = False
    warnings.filterwarnings("ignore", module="pydicom")


@contextlib.contextmanager
def _nameless(syntax: str = "") -> Iterator[None]:
    """Errors of pydicom and its decoders by their kind alone."""
    try:
        yield
    except BadText:
        raise
    except Exception as error:  # damaged bytes raise anything, and its text may quote a field
        kind = type(error).__name__
        lacking = kind == "NotImplementedError" or any(words in str(error) for words in LACKING)
        if syntax and lacking:
            reason = f"no decoder here reads its transfer syntax, {syntax} ({kind})"
            raise BadText(reason, DECODERS) from None
        if kind == "InvalidDicomError":
            raise BadText("the file is no DICOM file, or its start is lost", "drop it") from None
        reason = f"the DICOM file is cut short or damaged ({kind})"
        raise BadText(reason, "export it again, or drop it") from None


def _syntax(elements) -> str:
    """Name of a compressed transfer syntax, "a private one", or "" of plain pixels."""
    syntax = getattr(elements.file_meta, "TransferSyntaxUID", None)
    if syntax is None:
        return ""
    if not syntax.is_transfer_syntax:
        return "a private one"
    return syntax.name if syntax.is_compressed else ""


def _bytes(values: np.ndarray, elements) -> np.ndarray:
    """Colour of more than 8 bits as 8."""
    bits = int(elements.get("BitsStored", 8))
    return values if values.dtype == np.uint8 else (values >> max(0, bits - 8)).astype(np.uint8)


def _unscaled(elements) -> bool:
    """Whether stored values are the file's unit already."""
    line = elements.get("RescaleSlope", 1), elements.get("RescaleIntercept", 0)
    return not elements.get("ModalityLUTSequence") and line == (1, 0)


def _padding(values: np.ndarray, elements) -> np.ndarray | None:
    """(..., ) true where a stored value stands for nothing."""
    padding, limit = elements.get("PixelPaddingValue"), elements.get("PixelPaddingRangeLimit")
    if not isinstance(padding, int):
        return None
    ends = sorted((padding, limit if isinstance(limit, int) else padding))
    return (values >= ends[0]) & (values <= ends[1])


def _window(elements) -> tuple[float, ...]:
    """Lowest and highest value of the first window; () where there is none (PS3.3 C.11.2.1.2)."""
    centre, width = (_first(elements, name) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or not np.isfinite(centre + width) or width <= 0:
        return ()
    if _function(elements) == "LINEAR_EXACT":
        return centre - width / 2, centre + width / 2
    if width < 1:
        return ()
    width = max(width, 2.0)
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _curve(units: np.ndarray, elements) -> np.ndarray | None:
    """(..., 1) float32 in [0, 1] of a table or a sigmoid; None where the window is linear."""
    if elements.get("VOILUTSequence"):
        from pydicom.pixels import apply_voi

        # The table is entered with whole numbers.
        entered = np.rint(units).astype(np.int32)
        table = elements.VOILUTSequence[0]
        top = float(2 ** (int(table.LUTDescriptor[2])) - 1)
        return np.clip(apply_voi(entered, elements) / top, 0, 1).astype(np.float32)
    if _function(elements) == "SIGMOID":
        centre, width = (_first(elements, name) for name in ("WindowCenter", "WindowWidth"))
        if centre is not None and width:
            return (1 / (1 + np.exp(-4 * (units - centre) / width))).astype(np.float32)
    return None


def _function(elements) -> str:
    """How the window maps values; the standard's default is LINEAR."""
    return elements.get("VOILUTFunction") or grouped(elements, "VOILUTFunction") or "LINEAR"


def _first(elements, name: str) -> float | None:
    value = elements.get(name)
    if value is None:
        value = grouped(elements, name)
    values = np.asarray(value if value not in (None, "") else [], np.float64).reshape(-1)
    return float(values[0]) if len(values) else None
