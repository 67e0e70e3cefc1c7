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
from biofm_jax.data.pictures import DICOM, FORMATS, Picture, format_of, image_ending
from biofm_jax.data.slides import TILE
from biofm_jax.data.volumes import NEIGHBOURS, SLICE, cut
from biofm_jax.errors import UserError

# What images of one person share, the surest first.
PERSONS = (("patient", "PatientID"), ("study", "StudyInstanceUID"), ("study", "SeriesInstanceUID"))
# First folders that say which part of a data set is below, and its classes below that.
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


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
        member = picture.partition("#")[2]
        if cut(member)[1] or member.startswith(f"{TILE}/"):  # a table names a slice or tile
            return [record]
        try:
            kind = format_of(picture.file)
            if self.series and kind is DICOM and not member and kind.slices(picture.file, ""):
                member = "series/0"
                picture = Picture(f"{picture}#{member}", picture.root)
                record = dataclasses.replace(record, picture=picture)
            count = 0 if self.axes == 3 else kind.slices(picture.file, member)
        except BadText:  # it is named when it is read
            return [record]
        if not count:
            return [record]
        slices = NEIGHBOURS if self.neighbours else SLICE
        start = f"{picture}/{slices}" if member else f"{picture}#{slices}"
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
    folder: Path, bad: BadRecords, volumes: Cut, other: Callable[[str], None]
) -> list[ImageRecord]:
    """Every image under a folder; the first folder of its path is its label.

    Where that is the name of a split, the second one is the label.

    Args:
        folder: hidden files and folders are left out.
        bad: gets DICOM files that cannot be read or hold no image.
        volumes: what becomes of them.
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
                found += [each for one in members(file, folder) for each in volumes.of(one)]
            else:
                other(image_ending(file))
        if dicoms:
            found += _of_dicoms(directory, dicoms, folder, bad, volumes, patients)
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
    folders = record.picture.partition("#")[0].split("/")[:-1]
    split = folders.pop(0) if folders and folders[0].lower() in SPLITS else ""
    label = record.label or (folders[0] if folders else "")
    return dataclasses.replace(record, label=label, split=record.split or split)


def _of_dicoms(
    directory: Path,
    files: list[Path],
    root: Path,
    bad: BadRecords,
    volumes: Cut,
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
    if volumes.series:
        place = directory.relative_to(root).as_posix()
        for number, series in enumerate(series_of(good)):
            picture = Picture(f"{place}#series/{number}", root)
            found.append(ImageRecord(picture, group=_patient(series[0], patients)))
    else:
        for each in good:
            picture = Picture(each.path.relative_to(root).as_posix(), root)
            found.append(ImageRecord(picture, group=_patient(each, patients)))
    return [each for record in found for each in volumes.of(record)]


def of_patient(record: ImageRecord, patients: dict[str, str]) -> ImageRecord:
    """A record of a table, with its patient as group where it names none and is a DICOM file.

    Args:
        record: not read.
        patients: identifier -> number, of those before; gets new ones.
    """
    file = record.picture.file
    if record.group or not file.is_file() or not is_dicom(file):
        return record
    try:
        group = _patient(read_elements(file, pixels=False), patients)
    except BadText:  # it is named when it is read
        return record
    return dataclasses.replace(record, group=group)


def _patient(file: DicomFile, patients: dict[str, str]) -> str:
    """ "patient N" in the order of appearance, so that the identifier itself goes nowhere.

    Without an identifier, which anonymising often takes away, "study N" of the file's study, else
    of its series.
    """
    for what, name in PERSONS:
        if identifier := str(file.elements.get(name) or "").strip():
            return patients.setdefault(identifier, f"{what} {len(patients) + 1}")
    return ""
