"""One adaptation of a model to a task, with everything that its result holds."""

import dataclasses
import datetime
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable

import numpy as np

from biofm_jax.adapt.fractions import within_limits
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.evaluate.calibration import calibration
from biofm_jax.evaluate.leak_records import LeakReport
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.metrics import METRICS, Score, score
from biofm_jax.evaluate.provenance import code_commit, package_versions
from biofm_jax.evaluate.recalibration import recalibrate
from biofm_jax.evaluate.results import Predictions, Result
from biofm_jax.evaluate.subgroups import Subgroups, subgroup_scores
from biofm_jax.evaluate.task import Dataset, Task

_LEAKS: dict[tuple[str, str, str], LeakReport] = {}


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is evaluated.

    Attributes:
        model: name or path, as printed.
        method: how it is adapted, as printed.
        adapter: the adaptation of the pretrained model.
        control: the same adaptation of the model with random parameters drawn from the seed;
            None only where `model` is itself such a control, or a simple method.
    """

    model: str
    method: str
    adapter: Adapter
    control: Adapter | None


def record(
    task: Task,
    dataset: Dataset,
    contender: Contender,
    seed: int,
    *,
    baselines: dict[str, Score],
    calibrate: bool = True,
    command: str | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Result:
    """Adapt a contender and its control once, and judge them.

    Args:
        task: what to predict.
        dataset: its data.
        contender: the model and its adaptation.
        seed: of adaptation and control.
        baselines: scores of the task's simple methods.
        calibrate: adapt once more, to calibrate (`recalibration`).
        command: recorded as the way to repeat this; the command line if not given.
        progress: called with a line before each piece of work.

    Raises:
        UserError: predictions are not finite or misshapen, or the metric is undefined.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    leaks = leaks_of(task, dataset)
    truth, fold = dataset.tested.targets, dataset.folds[0]
    what = f"{task.name}: {contender.method} of"
    progress(f"{what} {contender.model}, seed {seed}")
    predicted = dataset.predict_tested(contender.adapter, seed)
    value = score(task.metric, truth, predicted)
    control = None
    if contender.control is not None:
        progress(f"{what} the control, seed {seed}")
        control = dataset.predict_tested(contender.control, seed)
    recalibration = None
    if calibrate:
        recalibration = recalibrate(
            dataset,
            contender.adapter,
            task.metric,
            seed,
            lambda: progress(f"{what} {contender.model}, seed {seed}, once more to calibrate"),
        )
    parts = dataset.part(fold.train), dataset.part(fold.valid)
    _, train, valid = within_limits(contender.adapter, *parts, seed)
    # Zero-shot scores of a binary label are no probabilities.
    probable = task.kind == "binary" and 0 <= predicted.min() <= predicted.max() <= 1
    return Result(
        task=task.name,
        model=contender.model,
        method=contender.method,
        seed=seed,
        split=task.split,
        metric=task.metric,
        direction=task.direction,
        unit=task.unit,
        score=value,
        baselines=baselines,
        control=None if control is None else score(task.metric, truth, control),
        published=task.published,
        n_train=_labelled(train),
        n_valid=_labelled(valid),
        n_test=len(truth),
        dropped=len(dataset.dropped),
        data=dataset.fingerprint(),
        command=command or shlex.join(sys.argv),
        commit=code_commit(),
        versions=package_versions(),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 3),
        predictions=Predictions(dataset.tested.ids, truth, predicted, control),
        leaks=leaks,
        calibration=calibration(truth, predicted) if probable else None,
        recalibration=recalibration,
        subgroups=subgroups_of(dataset, task.metric, predicted),
        classes=dataset.classes,
    )


def subgroups_of(dataset: Dataset, metric: str, predicted: np.ndarray) -> tuple[Subgroups, ...]:
    """The metric by each grouping column of the data, from (n, k) predictions of tested items."""
    truth, rows = dataset.tested.targets, dataset.tested_rows
    return tuple(
        subgroup_scores(metric, truth, predicted, column, [cells[row] for row in rows])
        for column, cells in dataset.groups.items()
    )


def leaks_of(task: Task, dataset: Dataset) -> LeakReport:
    """The leak report of a task's data, made once in a process: it depends on no method."""
    columns = [
        {name: [str(cell) for cell in cells] for name, cells in given.items()}
        for given in (dataset.groups, dataset.metadata)
    ]
    digest = hashlib.sha256(json.dumps([*columns, dataset.apart]).encode()).hexdigest()
    key = (task.name, dataset.fingerprint(), digest)
    if key not in _LEAKS:
        _LEAKS[key] = leak_report(
            dataset,
            task.modality,
            classes=METRICS[task.metric].classes,
            groups={name: dataset.groups[name] for name in dataset.apart},
            columns=dataset.metadata,
        )
    return _LEAKS[key]


def _labelled(part: Labelled) -> int:
    """Items with a label in some column."""
    return int((~np.isnan(part.targets)).any(1).sum())
