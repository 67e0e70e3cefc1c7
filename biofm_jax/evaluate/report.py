"""One HTML page, and a Markdown table, of the results and runs found in some folders."""

import dataclasses
import datetime
import json
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2

from biofm_jax.adapt.fractions import method_name, read_method
from biofm_jax.errors import UserError
from biofm_jax.evaluate import figures
from biofm_jax.evaluate.calibration import Calibration
from biofm_jax.evaluate.curves import label_curves
from biofm_jax.evaluate.leak_text import leak_lines
from biofm_jax.evaluate.multiple import (
    against_controls,
    compare_all,
    comparisons_to_table,
    every_pair,
)
from biofm_jax.evaluate.ranks import rank_figure, rank_rows
from biofm_jax.evaluate.results import read_results
from biofm_jax.evaluate.table import (
    Row,
    aggregate,
    metric_text,
    number,
    rows_to_table,
    to_markdown,
    with_interval,
)
from biofm_jax.evaluate.task import Published, all_tasks
from biofm_jax.files import write_whole

METRICS_FILE = "metrics.jsonl"
EXPERIMENT_FILE = "experiment.json"
PROVENANCE_FILE = "run.json"


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What a run's folder says about it.

    Attributes:
        name: of the folder.
        metrics: one dict per logged step.
        experiment: its experiment.json, or None.
        provenance: its run.json (command, commit, versions, devices, time), or None.
    """

    name: str
    metrics: list[dict]
    experiment: dict | None
    provenance: dict | None


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        html: the page.
        markdown: the table.
        rows: of the table.
        problems: one message for each file that could not be read.
    """

    html: Path
    markdown: Path
    rows: list[Row]
    problems: list[str]


def write_report(folders: Sequence[Path], out: Path, title: str = "Results") -> Report:
    """Write a page of every result and training run under some folders.

    The page needs no other file and no network. A file that cannot be read is named in the
    page and does not stop the rest.

    Args:
        folders: run or results folders; searched with all their subfolders.
        out: the HTML file; the Markdown table goes beside it, with the ending .md.
        title: of the page.

    Raises:
        UserError: a folder does not exist, or no folder holds a result or a run.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: name run or results folders")
    results, problems = read_results(folders)
    runs = []
    for path in sorted({p for folder in folders for p in folder.rglob(METRICS_FILE)}):
        runs.append(_read_run(path.parent, problems))
    if not results and not runs and not problems:
        raise UserError(
            f"no results (*.result.json) and no runs ({METRICS_FILE}) under "
            f"{', '.join(map(str, folders))}"
        )
    rows = aggregate(results)
    write_whole(out, _render(title, rows, runs, problems))
    markdown = out.with_suffix(".md")
    write_whole(markdown, _by_modality(rows))
    return Report(out, markdown, rows, problems)


def _by_modality(rows: list[Row]) -> str:
    """One Markdown table per modality; a task this version does not know comes last."""
    known = all_tasks()
    tables: dict[str, list[Row]] = {}
    for row in rows:
        modality = known[row.task].modality if row.task in known else "other"
        tables.setdefault(modality, []).append(row)
    parts = [f"## {name}\n\n{to_markdown(part)}" for name, part in sorted(tables.items())]
    return "\n".join(parts)


def _read_run(folder: Path, problems: list[str]) -> TrainingRun:
    path = folder / METRICS_FILE
    metrics = []
    for line_number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            row = json.loads(line)
            metrics.append({"step": int(row["step"]), **row})
        except (ValueError, KeyError, TypeError):
            problems.append(f"{path}, line {line_number}: not a row of metrics")
    return TrainingRun(
        folder.name,
        metrics,
        _read_record(folder / EXPERIMENT_FILE, problems),
        _read_record(folder / PROVENANCE_FILE, problems),
    )


def _read_record(path: Path, problems: list[str]) -> dict | None:
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
        return None
    return record


def _render(
    title: str,
    rows: list[Row],
    runs: list[TrainingRun],
    problems: list[str],
) -> str:
    header, cells = rows_to_table(rows)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("biofm_jax.evaluate", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        written=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        problems=problems,
        header=header,
        cells=[[_unbroken(cell) for cell in line] for line in cells],
        rows=[_row_view(row) for row in rows],
        elsewhere=_elsewhere(rows),
        curves=label_curves(rows),
        ranks=_rank_picture(rows),
        comparisons=_comparisons(rows),
        runs=[_run_view(run) for run in runs],
    )


def _unbroken(cell: str) -> str:
    """The cell with hard spaces, so that a line breaks before an interval and not within it."""
    hard = re.sub(r"\[[^]]*\]", lambda match: match[0].replace(" ", "\u00a0"), cell)
    return hard.replace("sd ", "sd\u00a0")


def _row_view(row: Row) -> dict:
    """The picture of a row (its first seed) and how each seed was made."""
    first = row.results[0]
    return {
        "task": row.task,
        "method": row.method,
        "model": row.model,
        "metric": metric_text(row),
        "split": row.split,
        "sizes": f"{first.n_train:,} train, {first.n_valid:,} valid, {first.n_test:,} test",
        "dropped": first.dropped,
        "seed": first.seed,
        "figure": figures.predictions(first),
        "reliability": first.calibration and figures.reliability(first.calibration),
        "calibration": _calibration_text(first.calibration),
        "leaks": leak_lines(first.leaks) if first.leaks else [],
        "versions": ", ".join(f"{k} {v}" for k, v in first.versions.items()),
        "seeds": [
            {
                "seed": result.seed,
                "value": number(result.score.value),
                "control": number(result.control.value) if result.control else "not run",
                "commit": result.commit[:12] + ("+" if result.commit.endswith("+") else ""),
                "started": result.started,
                "seconds": f"{result.seconds:.1f}",
                "command": result.command,
            }
            for result in row.results
        ],
    }


def _calibration_text(found: Calibration | None) -> str:
    if found is None:
        return ""
    return (
        f"Expected calibration error {with_interval(found.ece)}; probabilities that are exactly "
        f"right would show {with_interval(found.ece_by_chance)}. "
        f"Brier score {with_interval(found.brier)}."
    )


def _with_all_labels(rows: list[Row]) -> list[Row]:
    """The rows of methods that saw every label, as it is."""
    return [row for row in rows if method_name(read_method(row.method)[0]) == row.method]


def _rank_picture(rows: list[Row]) -> str | None:
    """Mean ranks over the tasks that all share; None where there is nothing to rank."""
    try:
        return rank_figure(rank_rows(_with_all_labels(rows)))
    except UserError:
        return None


def _comparisons(rows: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]] | None:
    """Header and cells of the paired tests, corrected for their number."""
    whole = _with_all_labels(rows)
    pairs = against_controls(whole) + every_pair(whole)
    return comparisons_to_table(compare_all(pairs)) if pairs else None


def _elsewhere(rows: list[Row]) -> list[tuple[str, Published]]:
    """Published numbers of another split or protocol, each task's once."""
    by_task = {row.task: row.published for row in rows}
    return [(t, p) for t, published in by_task.items() for p in published if not p.comparable]


def _run_view(run: TrainingRun) -> dict:
    last: dict = {}
    for row in run.metrics:
        last.update(row)
    facts = {
        "steps": f"{last['step']:,}" if "step" in last else "none logged",
        "last loss": f"{last['loss']:.4f}" if "loss" in last else "none",
        "held-out loss": f"{last['validation_loss']:.4f}" if "validation_loss" in last else None,
        "tokens/s": f"{last['tokens_per_second']:,.0f}" if "tokens_per_second" in last else None,
    }
    loop = (run.experiment or {}).get("loop")
    facts["seed"] = loop.get("seed") if isinstance(loop, dict) else None
    for name in ("commit", "command", "devices", "time"):
        facts[name] = (run.provenance or {}).get(name)
    return {
        "name": run.name,
        "facts": {name: value for name, value in facts.items() if value is not None},
        "figure": figures.loss_curve(run.metrics),
        "experiment": run.experiment and json.dumps(run.experiment, indent=2),
    }
