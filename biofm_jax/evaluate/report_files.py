"""What a report is made of: the results and training runs under some folders."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from biofm_jax.errors import UserError
from biofm_jax.evaluate.domains import by_task
from biofm_jax.evaluate.results import BROKEN, Result, read_results
from biofm_jax.evaluate.table import Row, aggregate
from biofm_jax.interpret.records import Interpretation, read_interpretations

METRICS_FILE = "metrics.jsonl"
EXPERIMENT_FILE = "experiment.json"
PROVENANCE_FILE = "run.json"
_NUMBERS = ("loss", "validation_loss", "tokens_per_second")


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What a run's folder says about it.

    Attributes:
        name: path of the folder, from the folder that was searched.
        metrics: one dict per logged step.
        experiment: its experiment.json, or None.
        provenance: its run.json (command, commit, versions, devices, time, what the trainer
            counted), or None.
    """

    name: str
    metrics: list[dict]
    experiment: dict | None
    provenance: dict | None


@dataclasses.dataclass(frozen=True)
class Found:
    """Everything under some folders.

    Attributes:
        folders: that were searched.
        rows: of the results table, by domain, modality and task.
        runs: by path.
        interpretations: by path.
        problems: one message for each file, line or result that was left out; the sections of
            the page add theirs.
    """

    folders: tuple[Path, ...]
    rows: list[Row]
    runs: list[TrainingRun]
    interpretations: list[Interpretation]
    problems: list[str]


def read_found(folders: Sequence[Path]) -> Found:
    """Read every result and training run; what cannot be read is named in `problems`.

    Args:
        folders: run or results folders; searched with all their subfolders.

    Raises:
        UserError: a folder does not exist, or no folder holds a result or a run.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: name run or results folders")
    results, problems = read_results(folders)
    rows = _rows(results, problems)
    runs: dict[Path, TrainingRun] = {}
    for folder in folders:
        for path in sorted(folder.rglob(METRICS_FILE)):
            if path.resolve() not in runs:
                runs[path.resolve()] = _read_run(path.parent, folder, problems)
    interpretations, unread = read_interpretations(folders)
    problems += unread
    if not rows and not runs and not interpretations and not problems:
        raise UserError(
            f"no results (*.result.json), no runs ({METRICS_FILE}) and no interpretations under "
            f"{', '.join(map(str, folders))}"
        )
    return Found(tuple(folders), rows, list(runs.values()), interpretations, problems)


def _rows(results: Sequence[Result], problems: list[str]) -> list[Row]:
    """The rows of the results; a copy of a result is no second seed."""
    groups: dict[tuple, dict[int, Result]] = defaultdict(dict)
    for result in sorted(results, key=lambda result: result.started):
        who = (result.task, result.method, result.model, result.data)
        words = f"{result.task}, {result.method} of {result.model}, seed {result.seed}"
        if result.seed in groups[who]:
            problems.append(f"{words}: found more than once; the one started last is shown")
        groups[who][result.seed] = result
    rows = []
    for (task, method, model, _), seeds in groups.items():
        try:
            rows += aggregate(list(seeds.values()))
        except BROKEN as error:
            problems.append(f"{task}, {method} of {model}: {error}")
    rows.sort(key=lambda row: (row.task, row.method, row.model))
    return [row for task in by_task(rows) for row in task]


def _read_run(folder: Path, searched: Path, problems: list[str]) -> TrainingRun:
    path = folder / METRICS_FILE
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        lines = []
    metrics = []
    for line_number, line in enumerate(lines, start=1):
        try:
            metrics.append(_read_metrics(line))
        except BROKEN:
            problems.append(f"{path}, line {line_number}: not a row of metrics")
    return TrainingRun(
        folder.name if folder == searched else str(folder.relative_to(searched)),
        metrics,
        _read_record(folder / EXPERIMENT_FILE, problems),
        _read_record(folder / PROVENANCE_FILE, problems),
    )


def _read_metrics(line: str) -> dict:
    row = json.loads(line)
    row["step"] = int(row["step"])
    float(row["step"])  # too large a number cannot be drawn
    return row | {name: float(row[name]) for name in _NUMBERS if name in row}


def _read_record(path: Path, problems: list[str]) -> dict | None:
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except BROKEN as error:
        problems.append(f"{path}: {error}")
        return None
    return record
