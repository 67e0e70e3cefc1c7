"""Results of several seeds as one row, and rows as a table."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from biofm_jax.evaluate.metrics import METRICS, Score, interval, resampled
from biofm_jax.evaluate.results import BASELINE, Result, floor_of, is_baseline
from biofm_jax.evaluate.task import Published

CONTROL = "random-initialised control"
HEADER = (
    "task",
    "method",
    "model",
    "seeds",
    "metric",
    "value [95 %]",
    "baseline",
    CONTROL,
    "comparable published",
)


@dataclasses.dataclass(frozen=True)
class Summary:
    """A score over seeds: two kinds of uncertainty, kept apart.

    Attributes:
        score: the mean over seeds, and the interval of that mean over resampled test items
            (all seeds on the same resamples).
        deviation: standard deviation over seeds (n - 1), None for a single seed.
    """

    score: Score
    deviation: float | None


@dataclasses.dataclass(frozen=True)
class Row:
    """One task, method and model over its seeds; `results` has one of each, by seed."""

    task: str
    method: str
    model: str
    seeds: tuple[int, ...]
    metric: str
    direction: str
    unit: str
    n_test: int
    split: str
    value: Summary
    baselines: dict[str, Score]
    control: Summary | None
    published: tuple[Published, ...]
    results: tuple[Result, ...]


def aggregate(results: Sequence[Result]) -> list[Row]:
    """One row for each task, method, model and state of the data, sorted by those.

    Numbers in names count as numbers: `probe@3%` comes before `probe@10%`.
    Each folder of results has the baselines of its tasks: of equal ones the first is taken.
    """
    groups = defaultdict(list)
    for result in results:
        group = groups[result.task, result.method, result.model, result.data]
        if is_baseline(result.method) and any(other.seed == result.seed for other in group):
            continue
        group.append(result)
    keys = sorted(groups, key=lambda key: [_natural(text) for text in key])
    return [_row(sorted(groups[key], key=lambda result: result.seed)) for key in keys]


def _natural(text: str) -> list[str | float]:
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def _row(results: list[Result]) -> Row:
    first = results[0]
    controlled = all(result.control is not None for result in results)
    return Row(
        task=first.task,
        method=first.method,
        model=first.model,
        seeds=tuple(result.seed for result in results),
        metric=first.metric,
        direction=first.direction,
        unit=first.unit,
        n_test=first.n_test,
        split=first.split,
        value=_summary(
            [r.score.value for r in results],
            [resampled(r.metric, r.predictions.truth, r.predictions.predicted) for r in results],
        ),
        baselines=first.baselines,
        control=_summary(
            [r.control.value for r in results],
            [resampled(r.metric, r.predictions.truth, r.predictions.control) for r in results],
        )
        if controlled
        else None,
        published=first.published,
        results=tuple(results),
    )


def _summary(values: list[float], draws: list[np.ndarray]) -> Summary:
    low, high = interval(np.mean(draws, axis=0))
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(Score(float(np.mean(values)), low, high), deviation)


def number(value: float) -> str:
    """Three decimals, fewer for large numbers."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def with_interval(score: Score) -> str:
    """`0.343 [0.310, 0.371]`."""
    return f"{number(score.value)} [{number(score.low)}, {number(score.high)}]"


def summary_text(summary: Summary) -> str:
    """Value and interval, then the deviation over seeds where there are several."""
    text = with_interval(summary.score)
    return text if summary.deviation is None else f"{text} sd {number(summary.deviation)}"


def metric_text(row: Row) -> str:
    """The metric with an arrow to the better side and the label's unit."""
    arrow = {"higher": "↑", "lower": "↓"}[row.direction]
    unit = f" ({row.unit})" if row.unit else ""
    return f"{METRICS[row.metric].label} {arrow}{unit}"


def rows_to_table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A header and one tuple of cells per row, as plain text.

    Baselines are no models: their own rows become the column beside the models that saw as many
    labels. Only a task without any model has them as rows. Published numbers are shown only
    where data, split and protocol are the task's.
    """
    cells = []
    for group in _by_task(rows):
        for row in _shown(group):
            comparable = [p for p in row.published if p.comparable]
            floors = {} if is_baseline(row.method) else _floors(row, group)
            cells.append(
                (
                    row.task,
                    row.method,
                    row.model,
                    str(len(row.seeds)),
                    metric_text(row),
                    summary_text(row.value),
                    "; ".join(f"{name} {value}" for name, value in floors.items()),
                    summary_text(row.control) if row.control else "not run",
                    "; ".join(f"{p.name} {number(p.value)}" for p in comparable) or "none",
                )
            )
    return HEADER, cells


def rows_by_task(rows: Sequence[Row]) -> list[tuple[str, list[dict[str, str]]]]:
    """One narrow table per task: every model and its control, then the floor they stand on.

    Returns:
        A title (task, metric, size and split) and lines of model, adaptation and value, for
        each task and state of its data, in the order of `rows`.
    """
    return [(_title(_shown(group)[0]), _lines(group)) for group in _by_task(rows)]


def _by_task(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each task and state of its data."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.task, row.results[0].data].append(row)
    return list(groups.values())


def _shown(group: Sequence[Row]) -> list[Row]:
    """The models' rows of a task, or its baselines' where there is no model."""
    return [row for row in group if not is_baseline(row.method)] or list(group)


def _floors(row: Row, group: Sequence[Row]) -> dict[str, str]:
    """Name and value of each baseline that saw as many labels as a row's method.

    Where few-label baselines were not run, those with all labels stand in, and say so.
    """
    name = floor_of(row.method)
    if name == BASELINE:
        return {n: with_interval(s) for n, s in row.baselines.items()}
    found = {other.model: summary_text(other.value) for other in group if other.method == name}
    return found or {n: f"{with_interval(s)} with all labels" for n, s in row.baselines.items()}


def _title(row: Row) -> str:
    n_seeds = f"{len(row.seeds)} seed{'' if len(row.seeds) == 1 else 's'}"
    return f"{row.task}: {metric_text(row)}, {row.n_test:,} test items, {n_seeds}\n{row.split}"


def _lines(group: list[Row]) -> list[dict[str, str]]:
    models = [row for row in group if not is_baseline(row.method)]
    found = []
    for row in models:
        found.append((row.model, row.method, summary_text(row.value)))
        control = summary_text(row.control) if row.control else "not run"
        found.append((CONTROL, row.method, control))
    if models:
        found += [(n, BASELINE, with_interval(s)) for n, s in models[0].baselines.items()]
    found += [
        (row.model, row.method, summary_text(row.value))
        for row in group
        if is_baseline(row.method) and not (models and row.method == BASELINE)
    ]
    found += [(p.name, "published", number(p.value)) for p in group[0].published if p.comparable]
    columns = ("model", "adaptation", "value [95 %]")
    return [dict(zip(columns, line, strict=True)) for line in found]


def to_markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown, ending in a line break."""
    return markdown(*rows_to_table(rows))


def markdown(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Any table as Markdown, ending in a line break."""
    lines = [header, ("---",) * len(header), *cells]
    escaped = (tuple(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)
