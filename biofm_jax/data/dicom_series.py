"""A DICOM series, one file or one frame a slice, to a volume in the patient's axes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.dicom import DicomFile, NoImage, is_dicom, read_dicom, read_elements
from biofm_jax.data.dicom_frames import of_frames
from biofm_jax.data.orientation import in_ras, turn
from biofm_jax.data.pixels import Image

ANGLE = 1e-3  # by which direction cosines may differ, and as a share distances of pixels
GAP = 0.02  # share by which distances between slices may differ


def read_series(folder: Path, member: str = "") -> Image:
    """The volume of one series.

    Slices are ordered along their normal by position, and the array is turned to the patient's
    axes: z to the head, y to the front, x to the right (RAS).

    Args:
        folder: holds the files of one or more series; or a file of several frames.
        member: "series/N", N counted from 0 in the order of the first file names; empty where
            there is one series.

    Returns:
        (z, y, x, c) with the spacing in mm of each axis, () where a slice tells none. Frames
        without positions of their own stay as they are stored.

    Raises:
        BadText: slices differ in size, orientation, pixel spacing or unit, lie at one place or
            leave a gap; there is no such series; or as `read_dicom`.
    """
    files = _files(folder, member)
    if files[0].frames > 1:
        return _of_frames(files[0])
    names = [file.path.name for file in files]
    _agree(names, "size", [file.size for file in files])
    cosines = _alike([_cosines(file) for file in files])
    _agree(names, "orientation", cosines)
    _agree(names, "pixel spacing in mm", _alike([file.pixel_spacing for file in files]))
    order, gap = _ordered(files, cosines[0])
    ordered = [files[i] for i in order]
    images = [_slice(file) for file in ordered]
    channels = [image.pixels.shape[-1] for image in images]
    _agree([file.path.name for file in ordered], "number of channels", channels)
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
    return in_ras(volume, _directions(cosines[0])) if cosines[0] else volume


def _of_frames(file: DicomFile) -> Image:
    """The frames of one file, which may stand in any order (PS3.3 C.7.6.16.1)."""
    volume = read_dicom(file.path)
    places, cosines = _frame_geometry(file)
    if not places:
        return volume
    order, gap = _along(places, cosines, [f"frame {k + 1}" for k in range(len(places))])
    spacing = file.pixel_spacing
    volume = dataclasses.replace(
        volume,
        pixels=volume.pixels[order],
        spacing=(gap, *spacing) if spacing else (),
        voi=None if volume.voi is None else volume.voi[order],
    )
    return in_ras(volume, _directions(cosines))


def _frame_geometry(file: DicomFile) -> tuple[list[np.ndarray], tuple[float, ...]]:
    """The place of each frame and the orientation of all; nothing where a frame has no place.

    Raises:
        BadText: orientations differ.
    """
    places = [_numbers(v, 3) for v in of_frames(file.elements, "ImagePositionPatient")]
    turns = [_numbers(v, 6) for v in of_frames(file.elements, "ImageOrientationPatient")]
    if len(places) != file.frames or any(v is None for v in (*places, *turns)) or not turns:
        return [], ()
    cosines = _alike([tuple(v.tolist()) for v in turns])
    _agree([f"frame {k + 1}" for k in range(len(turns))], "orientation", cosines)
    return places, cosines[0]


def _numbers(value, count: int) -> np.ndarray | None:
    values = np.asarray([] if value is None else value, np.float64).reshape(-1)
    return values if len(values) == count and np.isfinite(values).all() else None


def series_slices(folder: Path, member: str = "") -> int:
    """Slices from foot to head of a series, by its headers; arguments as of `read_series`."""
    files = _files(folder, member)
    count = len(files)
    cosines = _cosines(files[0])
    if files[0].frames > 1:
        count = files[0].frames
        cosines = _frame_geometry(files[0])[1]
    if not cosines:
        return count
    order, _ = turn(_directions(cosines))
    return (count, *files[0].size)[order[0]]


def _files(folder: Path, member: str) -> list[DicomFile]:
    """The files of one series; those without an image are left out, damaged ones are not."""
    opened = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
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
    """Of the rows and of the columns of a slice; () where none are told."""
    values = file.vector("ImageOrientationPatient", 6)
    return () if values is None else tuple(values.tolist())


def _alike(values: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Vectors that differ from the first by rounding alone are written as the first."""
    first = values[0]
    return [
        first if len(v) == len(first) and np.allclose(v, first, rtol=ANGLE, atol=ANGLE) else v
        for v in values
    ]


def _agree(names: list[str], what: str, values: list) -> None:
    """Refuse slices that differ, and say how many do and where."""
    kinds = sorted(set(values), key=values.count)
    if len(kinds) > 1:
        odd = [name for name, value in zip(names, values) if value == kinds[0]]
        raise BadText(
            f"of {len(names)} slices {len(odd)} have {what} {_text(kinds[0])}, others "
            f"{_text(kinds[-1])} (the first: {odd[0]})",
            "take them out, or put them into a folder of their own",
        )


def _text(value) -> str:
    if isinstance(value, tuple):
        return " x ".join(f"{each:g}" for each in value) if value else "none"
    return str(value)


def _ordered(files: list[DicomFile], cosines: tuple[float, ...]) -> tuple[Sequence[int], float]:
    """The slices from one end to the other, and mm between them (0 where no position is told)."""
    places = [file.vector("ImagePositionPatient", 3) for file in files]
    if not cosines or any(place is None for place in places):
        numbers = [file.vector("InstanceNumber", 1) for file in files]
        if any(number is None for number in numbers):
            return range(len(files)), 0.0
        return np.argsort([n[0] for n in numbers], kind="stable"), 0.0
    return _along(places, cosines, [file.path.name for file in files])


def _along(
    places: list[np.ndarray], cosines: tuple[float, ...], names: list[str]
) -> tuple[np.ndarray, float]:
    """Order along the normal, and mm from slice to slice; 0 of one slice.

    Raises:
        BadText: two lie at one place, or there is a gap.
    """
    normal = np.cross(cosines[:3], cosines[3:])
    along = np.array([place @ normal for place in places])
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    if not len(steps):
        return order, 0.0
    middle = float(np.median(steps))
    if steps.min() <= GAP * max(middle, 1e-6):
        first = int(steps.argmin())
        raise BadText(
            f"two slices lie at one place: {names[order[first]]} and {names[order[first + 1]]}",
            "keep one series to a folder",
        )
    if steps.max() > (1 + GAP) * middle or steps.min() < (1 - GAP) * middle:
        widest = int(np.abs(steps - middle).argmax())
        raise BadText(
            f"a gap of {steps[widest]:.4g} mm behind {names[order[widest]]}, where others are "
            f"{middle:.4g} mm",
            "find the missing slice, or read the slices one by one",
        )
    return order, middle


def _common_window(images: list[Image]) -> tuple[float, ...]:
    """That of the middle slice, for all: one window, so that slices can be compared."""
    return images[len(images) // 2].window
