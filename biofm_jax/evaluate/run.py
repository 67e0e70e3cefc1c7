"""Evaluate a model on a task: adapt it, adapt its control the same way, score both."""

import dataclasses
import datetime
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from biofm_jax.adapt.labelled import Adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines import baseline_scores
from biofm_jax.evaluate.calibration import calibration
from biofm_jax.evaluate.leaks import leak_report
from biofm_jax.evaluate.metrics import METRICS, score
from biofm_jax.evaluate.results import (
    Predictions,
    Result,
    code_commit,
    package_versions,
    write_result,
)
from biofm_jax.evaluate.table import Row, aggregate
from biofm_jax.evaluate.task import Dataset, Task


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is evaluated.

    Attributes:
        model: name or path, as printed.
        method: how it is adapted, as printed.
        adapter: the adaptation of the pretrained model.
        control: the same adaptation of the model with random parameters drawn from the seed;
            None only where `model` is itself such a control.
    """

    model: str
    method: str
    adapter: Adapter
    control: Adapter | None


def evaluate(
    task: Task,
    contender: Contender,
    *,
    seeds: Sequence[int],
    out: Path,
    dataset: Dataset | None = None,
    command: str | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Row:
    """Score a contender, its control and the task's baselines; write one JSON file per seed.

    The labels of test items reach neither adapter.

    Args:
        task: what to predict.
        contender: the model and its adaptation.
        seeds: one adaptation and one control each.
        out: folder of the results; baselines are kept there and computed once.
        dataset: the task's data where it is loaded already.
        command: recorded as the way to repeat this; the command line if not given.
        progress: called with a line before each piece of work.

    Returns:
        The row of the results table.

    Raises:
        UserError: no seeds, a data file is missing, predictions are not finite or misshapen.
    """
    if not seeds:
        raise UserError("an evaluation needs at least one seed")
    progress(f"{task.name}: reading")
    dataset = dataset or task.data(None)
    progress(f"{task.name}: baseline {', '.join(task.baselines)}")
    baselines = baseline_scores(task, dataset, out)
    leaks = leak_report(dataset, task.modality, classes=task.kind == "class")
    for finding in leaks.findings:
        progress(f"{task.name}: leak: {finding}")
    truth, fold = dataset.tested.targets, dataset.folds[0]
    binary = METRICS[task.metric].kind == "binary"
    results = []
    for seed in seeds:
        started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
        progress(f"{task.name}: {contender.method} of {contender.model}, seed {seed}")
        predicted = dataset.predict_tested(contender.adapter, seed)
        control = None
        if contender.control is not None:
            progress(f"{task.name}: {contender.method} of the control, seed {seed}")
            control = dataset.predict_tested(contender.control, seed)
        results.append(
            Result(
                task=task.name,
                model=contender.model,
                method=contender.method,
                seed=seed,
                split=task.split,
                metric=task.metric,
                direction=task.direction,
                unit=task.unit,
                score=score(task.metric, truth, predicted),
                baselines=baselines,
                control=None if control is None else score(task.metric, truth, control),
                published=task.published,
                n_train=len(fold.train),
                n_valid=len(fold.valid),
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
                # Zero-shot scores of a binary label are no probabilities.
                calibration=calibration(truth, predicted)
                if binary and predicted.min() >= 0 and predicted.max() <= 1
                else None,
            )
        )
        write_result(results[-1], out)
    return aggregate(results)[0]
