"""Tasks of images with text: questions about radiology images (VQA-RAD).

vqa_rad/all, /closed, /open: 3,515 questions about 314 images with answers by clinicians (Lau et al.
2018, doi 10.1038/sdata.2018.251, CC0): 3,064 train, 451 test (272 closed, 179 open) as published. A
class is an answer in lower case. Two leaks are in the data and in the leak report: all 203 images
of the test questions stand in training questions, too, and 22 training rows equal one of 14 test
rows in image, question and answer. They stay, as the published numbers have them.

The items are the questions: what is measured here is what they tell without the image, which is
the floor below every model that looks at it. An answer that no training row has (10 % of the test
rows) is out of reach of any classifier, and counts as missed.

Baselines. TF-IDF of words with logistic regression is right on .568 of the test questions, .695 of
the closed and .374 of the open ones; of words and pairs of words with C = 10 on .537, .710 and
.274, which is near the .532, .706 and .268 reported with the data. These and two weaker settings
were all that was tried. The majority class ("no") is right on .49 of the closed ones.

vqa_rad_organ_unseen: the region of `vqa_rad_organ` of those images that the image-text experiments
hold out with `--data.columns.group image --data.holdout 0.2`: a zero-shot model has read no caption
of theirs.
"""

import csv
import dataclasses
import gzip
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.data.token_store import below, group_hash
from biofm_jax.errors import UserError
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Published, Task
from biofm_jax.evaluate.tasks.imaging import VQA_RAD, load_vqa_rad, made_file

COLUMNS = ("split", "qid", "image", "organ", "question", "answer", "answer_type", "question_type")
HELD = 0.2  # of the images, by hash of their names


def answers(root: Path | None, kind: str = "") -> Dataset:
    """The questions of VQA-RAD, with the official training and test rows.

    Args:
        root: as of `Task.data`.
        kind: "CLOSED" or "OPEN" test questions only; all of both train in any case.

    Raises:
        UserError: the table is missing, damaged or lacks a column; the message names the line.
    """
    rows = read_rows(made_file(root, VQA_RAD, "qa.csv.gz"))
    kept = [row for row in rows if row["split"] == "train" or kind in ("", row["answer_type"])]
    given = [" ".join(row["answer"].casefold().split()) for row in kept]
    classes = tuple(sorted(set(given)))
    number = {answer: float(i) for i, answer in enumerate(classes)}
    items = Labelled(
        tuple(f"{row['split']}/{row['qid']}" for row in kept),
        tuple(row["question"] for row in kept),
        np.array([number[answer] for answer in given])[:, None],
    )
    return Dataset(
        items,
        (Fold.from_labels([row["split"] for row in kept]),),
        ("answer",),
        groups={name: [row[name] for row in kept] for name in ("image", "organ", "answer_type")},
        apart=("image",),
        classes=classes,
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of VQA-RAD's table; of the published file one answer is not UTF-8.

    Raises:
        UserError: the file is damaged or lacks a column, or a row has no question, answer or known
            split; the message names the line.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
    except (OSError, EOFError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch it again") from error
    if lacking := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise UserError(
            f"{path}: there is no column {lacking[0]!r} among {', '.join(reader.fieldnames or ())}"
        )
    for line, row in enumerate(rows, 2):
        if short := [name for name in ("qid", "image", "question", "answer") if not row[name]]:
            raise UserError(f"{path}, line {line}: {short[0]} is blank; fill it or drop the row")
        if row["split"] not in ("train", "test"):
            raise UserError(
                f"{path}, line {line}: split {row['split']!r} is neither train nor test"
            )
    return rows


def unseen_organs(root: Path | None) -> Dataset:
    """The regions of `vqa_rad_organ` with the images that the experiments hold out to test.

    Raises:
        UserError: as `load_vqa_rad`.
    """
    data = load_vqa_rad(root)
    held = below(np.array([group_hash(name) for name in data.items.ids], np.uint64), HELD)
    fold = Fold.from_labels(np.where(held, "test", "train"))
    return dataclasses.replace(data, folds=(fold,))


def _published(which: str) -> tuple[Published, ...]:
    numbers: dict[str, dict[str, float]] = {
        "open": {"MEVF+SAN": 0.407, "MEVF+BAN": 0.439},
        "closed": {"MEVF+SAN": 0.741, "MEVF+BAN": 0.751},
    }
    source = "github.com/yutian-zhao/MICCAI19-MedVQA, README"
    note = "reads the image, too; the official split"
    return tuple(
        Published(name, value, source, True, note) for name, value in numbers.get(which, {}).items()
    )


def _task(which: str) -> Task:
    kind = {"all": "", "closed": "CLOSED", "open": "OPEN"}[which]
    return Task(
        name=f"vqa_rad/{which}",
        modality="imaging_text",
        data=lambda root: answers(root, kind),
        split=f"official; {which} test questions, all others train",
        metric="accuracy",
        unit="",
        baselines=("tfidf_answers_logistic", "majority"),
        published=_published(which),
    )


TASKS = (
    *(_task(which) for which in ("all", "closed", "open")),
    Task(
        name="vqa_rad_organ_unseen",
        modality="imaging",
        data=unseen_organs,
        split="by image: those that the image-text experiments hold out (20 %) test",
        metric="accuracy",
        unit="",
        baselines=("pixels_multinomial", "texture_multinomial", "majority"),
    ),
)
