"""The task's simple methods as results of their own, each computed once and kept."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from biofm_jax.adapt.fractions import limited_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate.baselines import BASELINES
from biofm_jax.evaluate.provenance import package_versions
from biofm_jax.evaluate.record import Contender, leaks_of, record, subgroups_of
from biofm_jax.evaluate.results import (
    BASELINE,
    Result,
    read_result,
    result_path,
    write_result,
)
from biofm_jax.evaluate.task import Dataset, Task

COMPUTED_BY = ("numpy", "scipy", "scikit-learn", "rdkit", "jax", "flax")


def baseline_results(
    task: Task,
    dataset: Dataset,
    folder: Path,
    *,
    method: str = BASELINE,
    seeds: Sequence[int] = (0,),
    command: str | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[Result]:
    """The results of a task's baselines with the labels that a method sees.

    They are written to `folder` as any result, with the baseline as the model and a method such
    as `baseline` or `baseline@3%`. A result that is there already, of the same data and the same
    versions of the libraries that compute it, is not computed again.

    Args:
        task: what to predict.
        dataset: its data.
        folder: of the results.
        method: `baseline`, with a limit to the labels as `fractions.method_name` writes it.
        seeds: draws of the labels; with all labels a baseline, which is deterministic, is run
            with seed 0 alone.
        command: recorded as the way to repeat this; the command line if not given.
        progress: called with a line before each piece of work.
    """
    results = []
    for baseline in task.baselines:
        adapter = limited_adapter(BASELINES[baseline], method, task.kind)
        contender = Contender(baseline, method, adapter, None)
        for seed in (0,) if method == BASELINE else seeds:
            path = result_path(folder, task.name, baseline, method, seed)
            if (kept := _kept(path, task, dataset)) is None:
                result = record(
                    task,
                    dataset,
                    contender,
                    seed,
                    baselines={},
                    command=command,
                    progress=progress,
                )
            else:
                # Other grouping columns can be asked for each time.
                groups = subgroups_of(dataset, task.metric, kept.predictions.predicted)
                result = dataclasses.replace(kept, leaks=leaks_of(task, dataset), subgroups=groups)
            if result != kept:
                write_result(result, folder)
            results.append(result)
    return results


def _kept(path: Path, task: Task, dataset: Dataset) -> Result | None:
    """The result that is there already, if it is what would be computed."""
    try:
        kept = read_result(path)
    except UserError:
        return None
    now = package_versions()
    same = all(kept.versions.get(name) == now.get(name) for name in COMPUTED_BY)
    return (
        kept if same and (kept.data, kept.metric) == (dataset.fingerprint(), task.metric) else None
    )
