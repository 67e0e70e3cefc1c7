"""A DICOM series, one file a slice, to a volume in the patient's axes."""

from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.dicom import DicomFile, NoImage, is_dicom, read_dicom, read_elements
from biofm_jax.data.orientation import in_ras, turn
from biofm_jax.data.pixels import Image

ANGLE = 1e-3  # of direction cosines that count as equal
GAP = 0.02  # share by which distances between slices may differ


def read_series(folder: Path, member: str = "") -> Image:
    """The volume of one series.

    Slices are ordered along their normal by position, and the array is turned to the patient's
    axes: z to the head, y to the front, x to the right (RAS).

    Args:
        folder: holds the files of one or more series.
        member: "series/N", N counted from 0 in the order of the first file names; empty where
            there is one series.

    Returns:
        (z, y, x, c) with the spacing in mm of each axis, () where a slice tells none.

    Raises:
        BadText: slices differ in size, orientation, pixel spacing or unit, lie at one place or
            leave a gap; there is no such series; or as `read_dicom`.
    """
    files = _files(folder, member)
    if files[0].frames > 1:
        return read_dicom(files[0].path)
    _agree(files, "size", [file.size for file in files])
    _agree(files, "orientation", [_cosines(file) for file in files])
    _agree(files, "pixel spacing in mm", [file.pixel_spacing for file in files])
    ordered, gap = _ordered(files)
    images = [_slice(file) for file in ordered]
    _agree(ordered, "number of channels", [image.pixels.shape[-1] for image in images])
    pixels = np.stack([image.pixels for image in images])
    spacing = ordered[0].pixel_spacing
    gap = gap or ordered[0].slice_spacing
    first = images[0]
    volume = Image(
        pixels,
        (gap, *spacing) if spacing and gap else (),
        _common_window(images),
        first.inverted,
        np.stack([i.voi for i in images]) if all(i.voi is not None for i in images) else None,
    )
    cosines = _cosines(ordered[0])
    if not cosines:
        return volume
    return in_ras(volume, _directions(cosines))


def series_slices(folder: Path, member: str = "") -> int:
    """Slices from foot to head of a series, by its headers; arguments as of `read_series`."""
    files = _files(folder, member)
    if files[0].frames > 1:
        return files[0].frames
    cosines = _cosines(files[0])
    if not cosines:
        return len(files)
    order, _ = turn(_directions(cosines))
    return (len(files), *files[0].size)[order[0]]


def _files(folder: Path, member: str) -> list[DicomFile]:
    """The files of one series; those without an image are left out, damaged ones are not."""
    opened = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_dicom(path):
            try:
                opened.append(read_elements(path, pixels=False))
            except NoImage:
                continue
            except BadText as error:
                raise BadText(f"{path.name}: {error.reason}", error.fix) from None
    found = series_of(opened)
    name = member.removeprefix("series/") or ("0" if len(found) == 1 else "")
    if not name.isdigit() or int(name) >= len(found):
        raise BadText(f"it holds {len(found)} series, not one", "write #series/N behind the folder")
    return found[int(name)]


def _directions(cosines: tuple[float, ...]) -> np.ndarray:
    """(3, 3) in RAS: the array's axes z, y, x run along the normal, the columns and the rows."""
    rows, columns = np.array(cosines[:3]), np.array(cosines[3:])
    lps = np.stack([np.cross(rows, columns), columns, rows])  # DICOM's coordinates
    return lps * [-1, -1, 1]


def series_of(files: list[DicomFile]) -> list[list[DicomFile]]:
    """The files of each series, in the order given; a file of several frames is one by itself."""
    found: dict[str, list[DicomFile]] = {}
    for file in files:
        name = str(file.elements.get("SeriesInstanceUID", ""))
        found.setdefault(f"{name} {file.path}" if file.frames > 1 else name, []).append(file)
    return list(found.values())


def _slice(file: DicomFile) -> Image:
    try:
        return read_dicom(file.path)
    except BadText as error:
        raise BadText(f"{file.path.name}: {error.reason}", error.fix) from None


def _cosines(file: DicomFile) -> tuple[float, ...]:
    """Of the rows and of the columns of a slice, to three digits; () where none are told."""
    values = file.vector("ImageOrientationPatient", 6)
    return () if values is None else tuple((np.round(values / ANGLE) * ANGLE + 0.0).tolist())


def _agree(files: list[DicomFile], what: str, values: list) -> None:
    """Refuse slices that differ, and say how many do and where."""
    kinds = sorted(set(values), key=values.count)
    if len(kinds) > 1:
        odd = [file.path.name for file, value in zip(files, values) if value == kinds[0]]
        raise BadText(
            f"of {len(files)} slices {len(odd)} have {what} {_text(kinds[0])}, others "
            f"{_text(kinds[-1])} (the first: {odd[0]})",
            "take them out, or put them into a folder of their own",
        )


def _text(value) -> str:
    if isinstance(value, tuple):
        return " x ".join(f"{each:g}" for each in value) if value else "none"
    return str(value)


def _ordered(files: list[DicomFile]) -> tuple[list[DicomFile], float]:
    """The slices from one end to the other, and mm between them (0 where no position is told)."""
    places = [file.vector("ImagePositionPatient", 3) for file in files]
    cosines = _cosines(files[0])
    if not cosines or any(place is None for place in places):
        numbers = [file.vector("InstanceNumber", 1) for file in files]
        if any(number is None for number in numbers):
            return files, 0.0
        return [files[i] for i in np.argsort([n[0] for n in numbers], kind="stable")], 0.0
    normal = np.cross(cosines[:3], cosines[3:])
    along = np.array([place @ normal for place in places])
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    ordered = [files[i] for i in order]
    if not len(steps):
        return ordered, 0.0
    middle = float(np.median(steps))
    if steps.min() <= GAP * max(middle, 1e-6):
        first = int(steps.argmin())
        names = f"{ordered[first].path.name} and {ordered[first + 1].path.name}"
        raise BadText(f"two slices lie at one place: {names}", "keep one series to a folder")
    if steps.max() > (1 + GAP) * middle or steps.min() < (1 - GAP) * middle:
        widest = int(np.abs(steps - middle).argmax())
        raise BadText(
            f"a gap of {steps[widest]:.4g} mm behind {ordered[widest].path.name}, where others are "
            f"{middle:.4g} mm",
            "find the missing slice, or read the slices one by one",
        )
    return ordered, middle


def _common_window(images: list[Image]) -> tuple[float, ...]:
    """That of the middle slice, for all: one window, so that slices can be compared."""
    return images[len(images) // 2].window
