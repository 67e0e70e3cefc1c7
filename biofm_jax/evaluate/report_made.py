"""The sections that say how models and results were made; see `report_views`."""

import json
from collections.abc import Sequence

from biofm_jax.evaluate import figures
from biofm_jax.evaluate.domains import by_task
from biofm_jax.evaluate.report_files import Found, TrainingRun
from biofm_jax.evaluate.report_table import PageTable, task_anchor
from biofm_jax.evaluate.results import Result
from biofm_jax.evaluate.table import Row, number

HEADER = (
    "model",
    "method",
    "seed",
    "value",
    "control",
    "seconds",
    "started",
    "commit",
    "command",
)


def training_view(found: Found) -> dict | None:
    """The loss of every training run, and how it was made."""
    return {"runs": [_run(run) for run in found.runs]} if found.runs else None


def _run(run: TrainingRun) -> dict:
    last: dict = {}
    for row in run.metrics:
        last.update(row)
    counted = (run.provenance or {}).get("counted", "tokens")
    facts = {
        "steps": f"{last['step']:,}" if "step" in last else "none logged",
        "last loss": f"{last['loss']:.4f}" if "loss" in last else "none",
        "held-out loss": f"{last['validation_loss']:.4f}" if "validation_loss" in last else None,
        f"{counted}/s": f"{last['tokens_per_second']:,.0f}"
        if "tokens_per_second" in last
        else None,
    }
    loop = (run.experiment or {}).get("loop")
    made = {"seed": loop.get("seed") if isinstance(loop, dict) else None}
    for name in ("command", "commit", "devices", "time"):
        made[name] = (run.provenance or {}).get(name)
    return {
        "name": run.name,
        "facts": {name: value for name, value in facts.items() if value is not None},
        "made": {name: value for name, value in made.items() if value is not None},
        "picture": figures.loss_curve(run.metrics),
        "experiment": run.experiment and json.dumps(run.experiment, indent=2),
    }


def provenance_view(found: Found) -> dict | None:
    """Seed, time, commit and command of every result, by task."""
    tasks = [_provenance(rows) for rows in by_task(found.rows)]
    return {"tasks": tasks} if tasks else None


def _provenance(rows: Sequence[Row]) -> dict:
    results = [result for row in rows for result in row.results]
    versions = {", ".join(f"{k} {v}" for k, v in r.versions.items()) for r in results}
    name, anchor = rows[0].task, f"{task_anchor(rows[0])}-made"
    label = f"how the results of {name} were made"
    table = PageTable(anchor, label, HEADER, [_made(result) for result in results])
    return {"name": name, "table": table, "versions": sorted(versions)}


def _made(result: Result) -> tuple[str, ...]:
    changed = "+" if result.commit.endswith("+") else ""
    return (
        result.model,
        result.method,
        str(result.seed),
        number(result.score.value),
        number(result.control.value) if result.control else "not run",
        f"{result.seconds:.1f}",
        result.started,
        result.commit[:12] + changed if result.commit else "outside a checkout",
        result.command,
    )
