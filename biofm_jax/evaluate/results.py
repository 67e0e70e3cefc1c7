"""A result: one model, one method, one task, one seed, in one JSON file that says how."""

import dataclasses
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biofm_jax.adapt.fractions import method_name, read_method
from biofm_jax.errors import UserError
from biofm_jax.evaluate.calibration import Calibration
from biofm_jax.evaluate.leak_records import LeakReport
from biofm_jax.evaluate.metrics import Score
from biofm_jax.evaluate.recalibration import Recalibration
from biofm_jax.evaluate.result_checks import check_result
from biofm_jax.evaluate.subgroups import Subgroups
from biofm_jax.evaluate.task import Published
from biofm_jax.files import write_whole
from biofm_jax.specs import decode, encode

SUFFIX = ".result.json"
BASELINE = "baseline"  # the method of results whose model is one of the task's simple methods
# What a missing, cut or foreign file raises, in JSON and in .npz.
BROKEN = (
    UserError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
)
# Fields written by `specs.encode`; results of old versions lack some.
FOUND = ("leaks", "calibration", "recalibration", "subgroups")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The test items of a result, kept beside it in an .npz file.

    Attributes:
        ids: n item names.
        truth: (n, k) float64 labels, nan = missing.
        predicted: (n, k) float64, by the model.
        control: (n, k) float64, by the random-initialised control, or None.
    """

    ids: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    control: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Result:
    """One evaluation.

    Attributes:
        task: name of the task.
        model: name or path of the model.
        method: how it was adapted.
        seed: of the adaptation and of the control's parameters.
        split: in words.
        metric: key of `metrics.METRICS`.
        direction: "higher" or "lower".
        unit: of the label.
        score: value and interval over test items.
        baselines: scores of the task's simple methods with all labels; none in their own results.
        control: score of the random-initialised control with the same adaptation.
        published: what others reported.
        n_train: training items with a label that the method saw (of the first fold): few with
            a label fraction, none for a zero-shot score.
        n_valid: validation items, counted alike.
        n_test: test items (of all folds).
        dropped: records of the source that could not be used.
        data: fingerprint of the data and folds.
        command: that can be run again.
        commit: of the code, empty outside a checkout; "+" at its end if files were changed.
        versions: of the packages.
        started: ISO 8601, UTC.
        seconds: that adaptation and control took.
        predictions: of the test items.
        leaks: what test items share with those learned from; None in results of old versions.
        calibration: of the probabilities of a 0/1 label; None for other labels.
        recalibration: temperature scaling and conformal prediction, where there are enough
            validation labels.
        subgroups: the metric by each grouping column of the data.
        classes: what the class numbers of a label of classes stand for.
    """

    task: str
    model: str
    method: str
    seed: int
    split: str
    metric: str
    direction: str
    unit: str
    score: Score
    baselines: dict[str, Score]
    control: Score | None
    published: tuple[Published, ...]
    n_train: int
    n_valid: int
    n_test: int
    dropped: int
    data: str
    command: str
    commit: str
    versions: dict[str, str]
    started: str
    seconds: float
    predictions: Predictions
    leaks: LeakReport | None = None
    calibration: Calibration | None = None
    recalibration: Recalibration | None = None
    subgroups: tuple[Subgroups, ...] = ()
    classes: tuple[str, ...] = ()


def is_baseline(method: str) -> bool:
    """Whether results of this method are of a task's simple methods, with any limit to labels."""
    return read_method(method)[0] == BASELINE


def floor_of(method: str) -> str:
    """The method of the baselines that see as many labels as a method: `baseline@3%`."""
    _, share, shots, _ = read_method(method)
    return method_name(BASELINE, share=share, shots=shots)


def slug(text: str) -> str:
    """The text as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")


def result_path(folder: Path, task: str, model: str, method: str, seed: int) -> Path:
    """The JSON file of a result."""
    who = hashlib.sha256("\0".join((model, method)).encode()).hexdigest()[:6]
    name = f"{slug(task)}.{slug(model)[-40:]}.{slug(method)}-{who}"
    return folder / f"{name}.seed{seed}{SUFFIX}"


def write_result(result: Result, folder: Path) -> Path:
    """Write a result and its predictions; the same evaluation done again replaces them.

    The predictions come first, so that a result that can be read has them.

    Returns:
        The path of the JSON file.
    """
    path = result_path(folder, result.task, result.model, result.method, result.seed)
    arrays = {
        "ids": np.array(result.predictions.ids, dtype=np.str_),
        "truth": result.predictions.truth,
        "predicted": result.predictions.predicted,
    }
    if result.predictions.control is not None:
        arrays["control"] = result.predictions.control
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(_predictions_path(path), buffer.getvalue())
    found = {name: encode(getattr(result, name)) for name in FOUND}
    shallow = dataclasses.replace(result, predictions=None, **dict.fromkeys(FOUND))
    record = {k: v for k, v in dataclasses.asdict(shallow).items() if k != "predictions"} | found
    write_whole(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


def read_result(path: Path) -> Result:
    """Read a result and its predictions.

    Raises:
        UserError: a file is missing, cut short, or lacks a field, or a field is not what it
            should be.
    """
    try:
        record = json.loads(path.read_text())
        record["score"] = Score(**record["score"])
        record["baselines"] = {k: Score(**v) for k, v in record["baselines"].items()}
        record["control"] = record["control"] and Score(**record["control"])
        record["published"] = tuple(Published(**row) for row in record["published"])
        record["classes"] = tuple(record.get("classes", ()))
        record |= {name: decode(record[name]) for name in FOUND if name in record}
        with np.load(_predictions_path(path), allow_pickle=False) as arrays:
            predictions = Predictions(
                tuple(arrays["ids"].tolist()),
                arrays["truth"],
                arrays["predicted"],
                arrays.get("control"),
            )
        result = Result(**record, predictions=predictions)
        check_result(result)
    except BROKEN as error:
        raise UserError(f"{path}: not a whole result ({type(error).__name__}: {error})") from error
    return result


def read_results(folders: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """Every result under some folders.

    Returns:
        The results, and one message for each file that could not be read.
    """
    results, problems = [], []
    # Folders may hold one another, under several names.
    paths = {p.resolve(): p for folder in folders for p in folder.rglob(f"*{SUFFIX}")}
    for path in sorted(paths.values()):
        try:
            results.append(read_result(path))
        except UserError as error:
            problems.append(str(error))
    return results, problems


def _predictions_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(SUFFIX) + ".predictions.npz")
