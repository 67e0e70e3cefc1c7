"""Tasks on medical images: chest X-rays, biopsies, fundus photographs, radiology of three regions.

pneumoniamnist: chest X-rays of children, 28 x 28 pixels, normal or pneumonia (Kermany et al. 2018,
doi 10.1016/j.cell.2018.02.010; PneumoniaMNIST of MedMNIST v2, Yang et al. 2023, doi
10.1038/s41597-022-01721-8, CC BY 4.0). The official 4,708 / 524 / 624 images, put together from
two copies: validation, test and pneumonia of the one, normal training images of the other. No
patient is named, so no report can say whether one is on both sides. `pneumoniamnist_accuracy` is
the share of right classes of the same.

ebhi_grade: 280 thumbnails (106 pixels) of H&E colorectal biopsies in six classes (EBHI-SEG, Shi et
al. 2023, doi 10.3389/fmed.2023.1114673, CC BY 4.0) of 73 cases, which were read off printed file
names. Five folds, a case in one of them; each fold validates on the next. Random folds would give
texture features .800 for .711. They are cut from a contact sheet: no number of the whole data set
compares.

retina_hrf: 20 of 45 fundus photographs of HRF (Budai et al. 2013, doi 10.1155/2013/154860,
CC BY 4.0): healthy, diabetic retinopathy or glaucoma, each eye tested once by what is left. Twenty
images are a demonstration, as the interval says. Photographs of another camera (CHASE_DB1) have
no diagnosis; `biofm interpret --masks` reads the vessels of both.

vqa_rad_organ: which region (head, chest, abdomen) each of the 314 radiology images of VQA-RAD shows
(Lau et al. 2018, doi 10.1038/sdata.2018.251, CC0), five random folds of images. No patient is
named: synpic39086 and synpic39088, by their look two slices of one CT, are in two folds.

Baselines. With the data were reported, without their settings, of logistic regression: on X-rays'
pixels AUC .923 and accuracy .837, of biopsies .707 on colour and texture and .368 on pixels, of
VQA-RAD .908 on pixels. These here, at scikit-learn's default strength, reach .924, .846, .711, .421
and .939.
"""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.data.bad_records import BadText
from biofm_jax.data.npz_images import npz_array
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError
from biofm_jax.evaluate.splits import Fold, random_folds
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

OFFICIAL = "imaging/pneumoniamnist/A_official_valtest_train3882.npz"
BALANCED = "imaging/pneumoniamnist/B_balanced_undersampled.npz"
PNEUMONIA = ("normal", "pneumonia")
GRADES = (
    "Normal",
    "Polyp",
    "Low-grade_IN",
    "High-grade_IN",
    "Adenocarcinoma",
    "Serrated_adenoma",
)
# Pictures that were made smaller: what from.
ORIGINS = {
    "imaging/ebhi_colorectal": "sarah-antillia/ImageMask-Dataset-EBHI-Colorectal-Cancer",
    "imaging/retina_hrf": (
        "sarah-antillia/Tensorflow-Tiled-Image-Segmentation-Pre-Augmented-HRF-Retinal-Vessel"
    ),
    "imaging/vqa_rad": "longle0702/med-v2qa",
}
EBHI, EBHI_COLUMNS = "imaging/ebhi_colorectal", ("file", "label", "case_group", "fold")
FOLDS = 5
DIAGNOSES = {"h": "healthy", "dr": "diabetic retinopathy", "g": "glaucoma"}
HRF = "imaging/retina_hrf"
ORGANS = ("HEAD", "CHEST", "ABD")
VQA_RAD = "imaging/vqa_rad"


def load_pneumonia(root: Path | None) -> Dataset:
    """MedMNIST's official parts of PneumoniaMNIST; training images are 3,494 ill, 1,214 normal.

    Raises:
        UserError: a file is missing or damaged, or holds other images.
    """
    pictures, labels, parts = [], [], []
    for relative, split, part, wanted in (
        (OFFICIAL, "train", "train", (1,)),
        (BALANCED, "train", "train", (0,)),
        (OFFICIAL, "val", "valid", (0, 1)),
        (OFFICIAL, "test", "test", (0, 1)),
    ):
        path = data_file(root, relative)
        try:
            images = npz_array(path, f"{split}_images")
            found = npz_array(path, f"{split}_labels").reshape(-1)
        except BadText as error:
            raise UserError(f"{path}: {error.reason}; {error.fix}") from error
        if len(images) != len(found) or not np.isin(found, (0, 1)).all():
            raise UserError(
                f"{path}: {len(images)} {split} images and {len(found)} labels, which should be as "
                "many, each 0 or 1"
            )
        for number in np.flatnonzero(np.isin(found, wanted)):
            reference = f"{relative}#{split}_images/{number}"
            pictures.append(Picture(reference, path.parents[2]))
            labels.append(float(found[number]))
            parts.append(part)
    ids = tuple(picture.partition("pneumoniamnist/")[2] for picture in pictures)
    items = Labelled(ids, tuple(pictures), np.array(labels)[:, None])
    return Dataset(items, (Fold.from_labels(parts),), ("pneumonia",), classes=PNEUMONIA)


def load_ebhi(root: Path | None) -> Dataset:
    """EBHI's tiles: fold f tests on its own cases and validates on those of fold f + 1.

    Raises:
        UserError: the table lacks a column, names an absent file, an unknown class, no fold from 0
            to 4, or one case in two folds; the message names the line.
    """
    table = made_file(root, EBHI, "labels.csv")
    rows = _table(table, table.read_text(), EBHI_COLUMNS)
    pictures, labels, folds, first = [], [], [], {}
    for line, row in enumerate(rows, 2):
        where = f"{table}, line {line}"
        pictures.append(_picture(where, table, f"{EBHI}/images/{row['file']}"))
        labels.append(_class(where, row["label"], GRADES))
        folds.append(_class(where, row["fold"], tuple(map(str, range(FOLDS))), "fold"))
        before, fold = first.setdefault(row["case_group"], (line, row["fold"]))
        if fold != row["fold"]:
            raise UserError(
                f"{where}: {row['case_group']} is in fold {row['fold']}, on line {before} in fold "
                f"{fold}; a case belongs on one side of every split"
            )
    folds = np.array(folds, np.int64)
    if len(absent := set(range(FOLDS)) - set(folds.tolist())):
        raise UserError(f"{table}: fold {min(absent)} has no image; the folds are 0 to {FOLDS - 1}")
    names = np.array(["test", "valid", *["train"] * (FOLDS - 2)])
    return Dataset(
        _items([row["file"] for row in rows], pictures, labels),
        tuple(Fold.from_labels(names[(folds - fold) % FOLDS]) for fold in range(FOLDS)),
        ("grade",),
        groups={"case": [row["case_group"] for row in rows]},
        apart=("case",),
        classes=GRADES,
    )


def load_hrf(root: Path | None) -> Dataset:
    """HRF's photographs: the images of one number test, one of each class; the others train.

    There is no validation part: what has to choose cross-validates.

    Raises:
        UserError: the folder is missing, or a file has no class in its name.
    """
    first = made_file(root, HRF, "images/01_h.jpg")
    files = sorted(path.name for path in first.parent.glob("*.jpg"))
    numbers, labels = [], []
    for file in files:
        number, _, code = file.removesuffix(".jpg").partition("_")
        if code not in DIAGNOSES or not number.isdigit():
            raise UserError(
                f"{first.parent / file}: the name should be a number and h, dr or g, as 01_h.jpg"
            )
        numbers.append(int(number))
        labels.append(float(list(DIAGNOSES).index(code)))
    pictures = [_picture(HRF, first, f"{HRF}/images/{file}") for file in files]
    folds = tuple(
        Fold.from_labels(np.where(np.array(numbers) == number, "test", "train"))
        for number in sorted(set(numbers))
    )
    return Dataset(
        _items(files, pictures, labels), folds, ("diagnosis",), classes=tuple(DIAGNOSES.values())
    )


def load_vqa_rad(root: Path | None) -> Dataset:
    """The images of VQA-RAD and the region of each, as its questions name it.

    Raises:
        UserError: the table lacks a column, names an absent file or an unknown region, or two of
            one image; the message names the line.
    """
    table = made_file(root, VQA_RAD, "qa.csv.gz")
    try:
        text = gzip.decompress(table.read_bytes()).decode()
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{table}: cut short or damaged ({error}); fetch it again") from error
    organs: dict[str, str] = {}
    pictures = []
    for line, row in enumerate(_table(table, text, ("image", "organ")), 2):
        where, image = f"{table}, line {line}", row["image"]
        if image not in organs:
            pictures.append(_picture(where, table, f"{VQA_RAD}/images/{image}"))
            _class(where, row["organ"], ORGANS)
        if organs.setdefault(image, row["organ"]) != row["organ"]:
            raise UserError(f"{where}: {image} shows {row['organ']}, and above {organs[image]}")
    labels = [float(ORGANS.index(organ)) for organ in organs.values()]
    items = _items(list(organs), pictures, labels)
    return Dataset(items, random_folds(len(items), FOLDS, seed=0), ("organ",), classes=ORGANS)


def made_file(root: Path | None, folder: str, name: str) -> Path:
    """A file of a set whose pictures were cut out or made smaller, which no fetch can bring."""
    try:
        return data_file(root, f"{folder}/{name}")
    except UserError as error:
        origin = f"https://github.com/{ORIGINS[folder]}"
        raise UserError(f"{error}; its pictures are smaller copies of those of {origin}") from None


def _table(path: Path, text: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that must have some columns."""
    reader = csv.DictReader(io.StringIO(text))
    if lacking := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise UserError(
            f"{path}: there is no column {lacking[0]!r} among {', '.join(reader.fieldnames or ())}"
        )
    rows = list(reader)
    for line, row in enumerate(rows, 2):
        if short := [name for name in columns if not row[name]]:
            raise UserError(f"{path}, line {line}: {short[0]} is blank; fill it or drop the row")
    return rows


def _picture(where: str, beside: Path, reference: str) -> Picture:
    """A picture under the root of the data sets, which must be there."""
    root = Path(str(beside)[: str(beside).rindex("imaging/")])
    picture = Picture(reference, root)
    if not picture.file.is_file():
        raise UserError(f"{where}: {picture.file} does not exist; bring it, or drop the row")
    return picture


def _class(where: str, name: str, names: Sequence[str], what: str = "label") -> float:
    if name not in names:
        raise UserError(f"{where}: {what} {name!r} is none of {', '.join(names)}")
    return float(names.index(name))


def _items(names: Sequence[str], pictures: Sequence[Picture], labels: Sequence[float]) -> Labelled:
    return Labelled(tuple(names), tuple(pictures), np.array(labels)[:, None])


_MEDMNIST = "MedMNIST v2, doi 10.1038/s41597-022-01721-8"
_FLOORS = ("texture_multinomial", "pixels_multinomial", "small_cnn_classes")


def _pneumonia(
    name: str, metric: str, baselines: tuple[str, ...], published: dict[str, float]
) -> Task:
    return Task(
        name=name,
        modality="imaging",
        data=load_pneumonia,
        split="MedMNIST official 4,708 / 524 / 624",
        metric=metric,
        unit="",
        baselines=baselines,
        published=tuple(Published(n, value, _MEDMNIST, True) for n, value in published.items()),
    )


def _ebhi(name: str, metric: str) -> Task:
    return Task(
        name=name,
        modality="imaging",
        data=load_ebhi,
        split="five folds by case; the next fold validates",
        metric=metric,
        unit="",
        baselines=_FLOORS,
    )


TASKS = (
    _pneumonia(
        "pneumoniamnist",
        "auroc",
        ("pixels_logistic", "texture_logistic", "small_cnn"),
        {
            "ResNet-18": 0.944,
            "ResNet-50": 0.948,
            "auto-sklearn": 0.942,
            "AutoKeras": 0.947,
            "Google AutoML Vision": 0.991,
        },
    ),
    _pneumonia(
        "pneumoniamnist_accuracy",
        "accuracy",
        ("pixels_multinomial", "texture_multinomial", "small_cnn_classes"),
        {
            "ResNet-18": 0.854,
            "ResNet-50": 0.854,
            "auto-sklearn": 0.855,
            "AutoKeras": 0.878,
            "Google AutoML Vision": 0.946,
        },
    ),
    _ebhi("ebhi_grade", "accuracy"),
    _ebhi("ebhi_grade_f1", "f1"),
    Task(
        name="retina_hrf",
        modality="imaging",
        data=load_hrf,
        split="seven folds, of one image of each class",
        metric="accuracy",
        unit="",
        baselines=("texture_multinomial", "pixels_multinomial", "majority"),
    ),
    Task(
        name="vqa_rad_organ",
        modality="imaging",
        data=load_vqa_rad,
        split="five random folds of images; the next fold validates",
        metric="accuracy",
        unit="",
        baselines=("pixels_multinomial", "texture_multinomial", "small_cnn_classes"),
    ),
)
