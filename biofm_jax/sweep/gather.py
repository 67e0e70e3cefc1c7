"""What a sweep found: tables, a Markdown file and a picture."""

import dataclasses
import functools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from biofm_jax.adapt.fractions import read_method
from biofm_jax.evaluate.comparison import Entry, Panel, comparison_figure, panel_figure
from biofm_jax.evaluate.curves import label_pictures
from biofm_jax.evaluate.metrics import METRICS, Score
from biofm_jax.evaluate.multiple import (
    Corrected,
    against_controls,
    between_models,
    compare_all,
    difference_text,
    p_text,
)
from biofm_jax.evaluate.results import BASELINE, read_results
from biofm_jax.evaluate.table import (
    Row,
    aggregate,
    markdown,
    number,
    rows_by_task,
    rows_to_table,
    to_markdown,
)
from biofm_jax.files import write_whole
from biofm_jax.sweep.budget import cost
from biofm_jax.sweep.cells import LOG, Cell, Work

Table = tuple[str, list[dict]]


@dataclasses.dataclass(frozen=True)
class LossRow:
    """The last held-out loss of a variant.

    Attributes:
        label: of the variant.
        seeds: that have one.
        values: in the objective's unit (nats of a token, squared error of a pixel), by seed.
        steps, tokens, flops: of each run.
    """

    label: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    steps: int
    tokens: int
    flops: float

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds (n - 1), None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What is known when a process of a sweep has done its cells.

    Attributes:
        rows: one per task, method and variant, over the seeds that are finished.
        losses: held-out losses by variant.
        same_targets: whether the held-out losses of all variants are of the same targets.
        unfinished: cells that failed, run elsewhere or wait: name, state, why (error and log file).
        problems: result files that could not be read.
        floors: one per task and baseline, for each share of the labels.
    """

    rows: list[Row]
    losses: list[LossRow]
    same_targets: bool
    unfinished: list[dict]
    problems: list[str]
    floors: list[Row] = dataclasses.field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a cell failed."""
        return any(cell["state"] == "failed" for cell in self.unfinished)

    @functools.cached_property
    def comparisons(self) -> list[Corrected]:
        """Each two variants on the same task by the same method."""
        return compare_all(between_models(self.rows))

    @functools.cached_property
    def from_controls(self) -> list[Corrected]:
        """Each variant and its untrained control, by the same method: did pretraining help?"""
        return compare_all(against_controls(self.rows))

    def tables(self) -> list[Table]:
        """Narrow tables with their titles, for a terminal."""
        return rows_by_task(self.rows) + self.more_tables()

    def more_tables(self) -> list[Table]:
        """All tables but those of the tasks; whatever compares rows is added here."""
        tables = [*self._compared("paired differences", self.comparisons)]
        tables += self._compared("differences from the control", self.from_controls)
        if self.losses:
            tables.append((self._loss_title(), [_loss_line(row) for row in self.losses]))
        if self.unfinished:
            tables.append(("cells that are not finished", self.unfinished))
        return tables

    def to_markdown(self) -> str:
        """Everything as Markdown."""
        parts = [to_markdown(self.rows)] if self.rows else []
        for title, lines in self.more_tables():
            header = list(dict.fromkeys(name for line in lines for name in line))
            cells = [[str(line.get(name, "")) for name in header] for line in lines]
            parts.append(f"**{title}**\n\n{markdown(header, cells)}")
        parts += [f"Not read: {problem}\n" for problem in self.problems]
        return "\n".join(parts)

    def to_json(self) -> dict:
        """Everything as plain JSON values."""
        header, cells = rows_to_table(self.rows)
        return {
            "results": [dict(zip(header, line, strict=True)) for line in cells],
            "comparisons": [_compared_json(row) for row in self.comparisons],
            "against_controls": [_compared_json(row) for row in self.from_controls],
            "losses": [dataclasses.asdict(row) | {"mean": row.mean, "sd": row.deviation}
                       for row in self.losses],
            "losses_are_of_the_same_targets": self.same_targets,
            "unfinished": self.unfinished,
            "problems": self.problems,
        }  # fmt: skip

    def figure(self) -> bytes | None:
        """A PNG: the tasks with most labels, or the held-out losses where there is no task."""
        if self.rows:
            most = max(_share(row) for row in self.rows)
            return comparison_figure([row for row in self.rows if _share(row) == most])
        if not self.losses:
            return None
        spread = [row.deviation or 0.0 for row in self.losses]
        entries = [
            Entry(row.label, Score(row.mean, row.mean - sd, row.mean + sd), row.values)
            for row, sd in zip(self.losses, spread, strict=True)
        ]
        unit = "loss of the objective ↓ (mean ± sd over seeds)"
        return panel_figure([Panel("held-out loss", unit, entries)])

    def _compared(self, what: str, found: Sequence[Corrected]) -> Iterator[Table]:
        """A table of each task; p values are corrected over all."""
        for task in dict.fromkeys(row.comparison.task for row in found):
            rows = [row for row in found if row.comparison.task == task]
            metric = METRICS[rows[0].comparison.metric].label
            title = (
                f"{task}: {what} in {metric} on the same test items, means over the seeds; p by "
                f"permutation, Holm over all {len(found)}"
            )
            yield title, [self._comparison_line(row) for row in rows]

    def _comparison_line(self, row: Corrected) -> dict:
        found, methods = row.comparison, {row.method for row in self.rows}
        only = f", {methods.pop()}" if len(methods) == 1 else ""
        return {
            "one": found.one.removesuffix(only),
            "other": found.other.removesuffix(only),
            "one - other [95 %]": difference_text(found),
            "p": p_text(found.p),
            "Holm": p_text(row.holm),
        }

    def _loss_title(self) -> str:
        title = "held-out loss (of the objective, mean over seeds)"
        if not self.same_targets:
            title += "; the cells have other targets, so this does not rank them"
        return title


def _compared_json(row: Corrected) -> dict:
    return dataclasses.asdict(row.comparison) | {"holm": row.holm}


def gather(cells: Sequence[Cell], work: Work, same_targets: bool) -> Outcome:
    """Read what the cells of a sweep have left behind.

    Args:
        cells: all cells, of all shards.
        work: what was evaluated.
        same_targets: whether their held-out losses can be compared.
    """
    labels = list(dict.fromkeys(cell.label for cell in cells))
    seeds = {(cell.label, cell.seed) for cell in cells}
    results, problems = read_results([work.results]) if work.results.is_dir() else ([], [])
    wanted = [r for r in results if (r.model, r.seed) in seeds and (r.task, r.method) in work.pairs]
    limited = {(task, read_method(method)[1]) for task, method in work.pairs}
    floors = [
        result
        for result in results
        if (read := read_method(result.method))[0] == BASELINE and (result.task, read[1]) in limited
    ]
    rows = aggregate(wanted)
    rows.sort(key=lambda row: (work.pairs.index((row.task, row.method)), labels.index(row.model)))
    tasks = list(dict.fromkeys(task for task, _ in work.pairs))
    rows.sort(key=lambda row: tasks.index(row.task))
    losses = [_losses([cell for cell in cells if cell.label == label]) for label in labels]
    return Outcome(
        rows=rows,
        losses=[row for row in losses if row is not None],
        same_targets=same_targets,
        unfinished=[line for cell in cells if (line := _unfinished(cell, work))],
        problems=problems,
        floors=aggregate(floors),
    )


def write(outcome: Outcome, out: Path) -> None:
    """Write `table.md`, `comparison.png`, and a `labels_TASK.png` of each curve over labels."""
    write_whole(out / "table.md", outcome.to_markdown())
    if (picture := outcome.figure()) is not None:
        write_whole(out / "comparison.png", picture)
    for task, picture in label_pictures([*outcome.rows, *outcome.floors]).items():
        write_whole(out / f"labels_{task.replace('/', '_')}.png", picture)


def _share(row: Row) -> float:
    """The share of the labels that a row's method saw; few shots count as none."""
    return read_method(row.method)[1] or 0.0


def _losses(cells: Sequence[Cell]) -> LossRow | None:
    """The losses of a variant's trained cells, or None where none was measured."""
    found = {}
    for cell in cells:
        losses = [row["validation_loss"] for row in cell.rows() if "validation_loss" in row]
        if losses and cell.trained():
            found[cell.seed] = losses[-1]
    if not found:
        return None
    spent = cost(cells[0].experiment)
    return LossRow(
        cells[0].label, tuple(found), tuple(found.values()), spent.steps, spent.tokens, spent.flops
    )


def _loss_line(row: LossRow) -> dict:
    deviation = "" if row.deviation is None else f" sd {number(row.deviation)}"
    return {
        "model": row.label,
        "seeds": len(row.seeds),
        "steps": row.steps,
        "tokens": row.tokens,
        "TFLOPs": float(f"{row.flops / 1e12:.3g}"),
        "loss": number(row.mean) + deviation,
    }


def _unfinished(cell: Cell, work: Work) -> dict | None:
    state = cell.state(work)
    if state == "finished":
        return None
    why = [cell.failure()] if state == "failed" else []
    why += [f"log: {cell.folder / LOG}"] if (cell.folder / LOG).exists() else []
    return {"cell": cell.name, "state": state, "why": "; ".join(why)}
