"""Images under a folder: pictures, volumes, and the DICOM series of each directory."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.dicom import DicomFile, is_dicom, read_elements
from biofm_jax.data.dicom_series import series_of
from biofm_jax.data.npz_images import npz_members
from biofm_jax.data.pictures import FORMATS, Picture, format_of, image_ending
from biofm_jax.data.volumes import NEIGHBOURS, SLICE
from biofm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """One image of a data set, not read.

    Attributes:
        picture: where it is.
        line: of the table, from 1; 0 where there is none.
        label: class, or "".
        group: what must stay on one side of a split (patient, case, volume), or "".
        split: "train", "val", "test" or whatever the source says, or "".
        caption: or "".
    """

    picture: Picture
    line: int = 0
    label: str = ""
    group: str = ""
    split: str = ""
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Cut:
    """What becomes of volumes.

    Attributes:
        axes: 3 keeps them whole; 2 makes an image of each slice.
        neighbours: with the slices before and behind it as channels; then, and where volumes stay
            whole, the files of a DICOM series are one volume. Else each is an image.
    """

    axes: int = 2
    neighbours: bool = False

    @property
    def series(self) -> bool:
        """Whether DICOM files are joined to series."""
        return self.neighbours or self.axes == 3

    def of(self, record: ImageRecord) -> list[ImageRecord]:
        """The records that a file's record becomes; slices of one volume are one group."""
        picture = record.picture
        if self.axes == 3:
            return [record]
        try:
            member = picture.partition("#")[2]
            count = format_of(picture.file).slices(picture.file, member)
        except BadText:  # it is named when it is read
            return [record]
        if count == 1:
            return [record]
        kind = NEIGHBOURS if self.neighbours else SLICE
        start = f"{picture}/{kind}" if member else f"{picture}#{kind}"
        group = record.group or str(picture)
        return [
            dataclasses.replace(record, picture=Picture(f"{start}/{k}", picture.root), group=group)
            for k in range(count)
        ]


def members(file: Path, root: Path) -> list[ImageRecord]:
    """The images of one file.

    Raises:
        UserError: an NPZ file that holds none.
    """
    reference = file.relative_to(root).as_posix()
    if image_ending(file) != ".npz":
        return [ImageRecord(Picture(reference, root))]
    try:
        return [
            ImageRecord(Picture(f"{reference}#{member}", root), label=label, split=split)
            for member, label, split in npz_members(file)
        ]
    except BadText as error:
        raise UserError(f"{file}: {error.reason}; {error.fix}") from error


def walk(
    folder: Path, bad: BadRecords, cut: Cut, other: Callable[[str], None]
) -> list[ImageRecord]:
    """Every image under a folder; the first folder of its path is its label.

    Args:
        folder: hidden files and folders are left out.
        bad: gets DICOM files that cannot be read or hold no image.
        cut: what becomes of volumes.
        other: is told the ending of each file that is no image.

    Raises:
        UserError: there is no image.
    """
    patients: dict[str, str] = {}
    found: list[ImageRecord] = []
    for directory, paths in itertools.groupby(_files(folder), lambda file: file.parent):
        files = list(paths)
        dicoms = [file for file in files if is_dicom(file)]
        for file in files:
            if file in dicoms:
                continue
            if image_ending(file) in FORMATS:
                found += [each for one in members(file, folder) for each in cut.of(one)]
            else:
                other(image_ending(file))
        if dicoms:
            found += _of_dicoms(directory, dicoms, folder, bad, cut, patients)
    if not found and not bad.records:
        raise UserError(f"{folder}: no image in it; endings are {', '.join(FORMATS)}")
    return [_labelled(record) for record in found]


def _files(folder: Path) -> Iterator[Path]:
    """Files by directory, both in the order of their names."""
    by_directory = collections.defaultdict(list)
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden:
            by_directory[file.parent].append(file)
    for directory in sorted(by_directory):
        yield from by_directory[directory]


def _labelled(record: ImageRecord) -> ImageRecord:
    parts = record.picture.partition("#")[0].split("/")
    if record.label or len(parts) < 2:
        return record
    return dataclasses.replace(record, label=parts[0])


def _of_dicoms(
    directory: Path,
    files: list[Path],
    root: Path,
    bad: BadRecords,
    cut: Cut,
    patients: dict[str, str],
) -> list[ImageRecord]:
    """The images of a directory's DICOM files, grouped by patient under a number."""
    good = []
    for file in files:
        try:
            good.append(read_elements(file, pixels=False))
        except BadText as error:
            bad.of(file, error)
    found = []
    if cut.series:
        place = directory.relative_to(root).as_posix()
        for number, series in enumerate(series_of(good)):
            picture = Picture(f"{place}#series/{number}", root)
            found.append(ImageRecord(picture, group=_patient(series[0], patients)))
    else:
        for each in good:
            picture = Picture(each.path.relative_to(root).as_posix(), root)
            found.append(ImageRecord(picture, group=_patient(each, patients)))
    return [each for record in found for each in cut.of(record)]


def _patient(file: DicomFile, patients: dict[str, str]) -> str:
    """ "patient N" in the order of appearance, so that the identifier itself goes nowhere."""
    identifier = str(file.elements.get("PatientID") or "").strip()
    if not identifier:
        return ""
    return patients.setdefault(identifier, f"patient {len(patients) + 1}")
