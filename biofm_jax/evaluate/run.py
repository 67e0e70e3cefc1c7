"""Evaluate a model on a task: adapt it, adapt its control the same way, score both."""

from collections.abc import Callable, Sequence
from pathlib import Path

from biofm_jax.errors import UserError
from biofm_jax.evaluate.floors import baseline_results
from biofm_jax.evaluate.record import Contender as Contender  # taken from here by other files
from biofm_jax.evaluate.record import leaks_of, record
from biofm_jax.evaluate.results import BASELINE, floor_of, write_result
from biofm_jax.evaluate.table import Row, aggregate
from biofm_jax.evaluate.task import Dataset, Task


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
    """The contender's row of `rows_beside_baselines`, which says the rest."""
    given = {"dataset": dataset, "command": command, "progress": progress}
    return rows_beside_baselines(task, contender, seeds=seeds, out=out, **given)[0]


def rows_beside_baselines(
    task: Task,
    contender: Contender,
    *,
    seeds: Sequence[int],
    out: Path,
    dataset: Dataset | None = None,
    command: str | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[Row]:
    """Score a contender, its control and the task's baselines; write one JSON file per seed.

    The baselines are results too, beside the contender's: with all labels, and with as few as
    the contender's method sees. The labels of test items reach neither adapter.

    Args:
        task: what to predict.
        contender: the model and its adaptation.
        seeds: one adaptation and one control each.
        out: folder of the results; baselines are kept there and computed once.
        dataset: the task's data where it is loaded already.
        command: recorded as the way to repeat this; the command line if not given.
        progress: called with a line before each piece of work.

    Returns:
        The contender's row of the results table, then the baselines' rows.

    Raises:
        UserError: no seeds, a data file is missing, predictions are not finite or misshapen.
    """
    if not seeds:
        raise UserError("an evaluation needs at least one seed")
    if dataset is None:
        progress(f"{task.name}: reading")
        dataset = task.data(None)
    for finding in leaks_of(task, dataset).findings:
        progress(f"{task.name}: leak: {finding}")
    told = {"command": command, "progress": progress}
    floors = baseline_results(task, dataset, out, **told)
    baselines = {floor.model: floor.score for floor in floors}
    if (limited := floor_of(contender.method)) != BASELINE:
        floors += baseline_results(task, dataset, out, method=limited, seeds=seeds, **told)
    results = []
    for seed in seeds:
        # Calibration takes a second adaptation: once says enough.
        once = seed == seeds[0]
        result = record(task, dataset, contender, seed, baselines=baselines, calibrate=once, **told)
        write_result(result, out)
        results.append(result)
    return [*aggregate(results), *aggregate(floors)]
