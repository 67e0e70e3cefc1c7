"""What each section of the page shows: one function a section, of `Found`, without HTML.

A function returns the values that the section's template fills in, or None where there is
nothing to show. `links`, if it is among them, are (title, [(anchor, text), ...]) for the contents.
"""

from collections.abc import Sequence

from biofm_jax.adapt.fractions import method_name, read_method
from biofm_jax.errors import UserError
from biofm_jax.evaluate import figures
from biofm_jax.evaluate.curves import label_curves
from biofm_jax.evaluate.domains import by_task, grouped
from biofm_jax.evaluate.leak_text import leak_lines
from biofm_jax.evaluate.multiple import (
    against_baselines,
    against_controls,
    compare_all,
    comparisons_to_table,
    every_pair,
)
from biofm_jax.evaluate.ranks import Ranks, rank_figure, rank_rows
from biofm_jax.evaluate.record_text import calibration_lines, subgroup_table
from biofm_jax.evaluate.report_files import Found
from biofm_jax.evaluate.report_table import MISSING, PageTable, task_anchor, task_table
from biofm_jax.evaluate.results import is_baseline
from biofm_jax.evaluate.table import Row, metric_text, number, with_interval


def results_view(found: Found) -> dict | None:
    """Every row by domain, modality and task, with the task's leak report."""
    if not found.rows:
        return None
    domains = [
        (domain, [(modality.replace("_", " "), [_task(t) for t in tasks]) for modality, tasks in m])
        for domain, m in grouped(found.rows)
    ]
    links = [
        (domain, [(task["anchor"], task["name"]) for _, tasks in m for task in tasks])
        for domain, m in domains
    ]
    return {"domains": domains, "links": links}


def _task(rows: Sequence[Row]) -> dict:
    first = rows[0].results[0]
    reports = {tuple(leak_lines(r.leaks)) for row in rows for r in row.results if r.leaks}
    return {
        "anchor": task_anchor(rows[0]),
        "name": first.task,
        "metric": metric_text(rows[0]),
        "split": first.split,
        "sizes": f"{first.n_train:,} train, {first.n_valid:,} valid, {first.n_test:,} test",
        "dropped": first.dropped,
        "data": first.data,
        "table": task_table(rows),
        "leaks": sorted(reports),
    }


def with_all_labels(rows: Sequence[Row]) -> list[Row]:
    """The rows of methods that saw every label, as it is."""
    return [row for row in rows if method_name(read_method(row.method)[0]) == row.method]


def comparisons_view(found: Found) -> dict | None:
    """The paired tests, corrected for their number."""
    whole = with_all_labels(found.rows)
    pairs = against_baselines(whole) + against_controls(whole) + every_pair(whole)
    if not pairs:
        return None
    table = comparisons_to_table(compare_all(pairs))
    return {"table": PageTable("paired", "paired comparisons", *table, main=4)}


def ranks_view(found: Found) -> dict | None:
    """Mean ranks over the tasks of a modality that all its methods share."""
    modalities = []
    for _, groups in grouped(with_all_labels(found.rows)):
        for modality, tasks in groups:
            try:
                ranks = rank_rows([row for task in tasks for row in task])
            except UserError:  # nothing to rank
                continue
            if len(ranks.tasks) > 1:  # one task's ranks are its table, sorted
                modalities.append(_ranks(modality, ranks))
    return {"modalities": modalities} if modalities else None


def _ranks(modality: str, ranks: Ranks) -> dict:
    cells = [
        (name, number(mean), *(f"{rank:g}" for rank in by_task))
        for name, mean, by_task in zip(ranks.methods, ranks.mean.tolist(), ranks.ranks.T)
    ]
    header = ("method", "mean rank", *ranks.tasks)
    name, label = modality.replace("_", " "), f"ranks over the tasks of {modality}"
    return {
        "name": name,
        "picture": rank_figure(ranks),
        "table": PageTable(f"ranks-{modality}", label, header, cells, main=1),
        "left_out": ranks.left_out,
    }


def curves_view(found: Found) -> dict | None:
    """Scores over the number of labels."""
    curves = label_curves(found.rows)
    return {"curves": curves} if curves else None


def _shown(found: Found) -> list[list[Row]]:
    """By task the models' rows that saw all labels; where there is no model, the baselines'."""
    tasks = []
    for rows in by_task(with_all_labels(found.rows)):
        models = [row for row in rows if not is_baseline(row.method)]
        tasks.append(models or list(rows))
    return tasks


def predictions_view(found: Found) -> dict | None:
    """Pictures of the first seed of every row that saw all labels, by task."""
    tasks = [
        {
            "anchor": task_anchor(rows[0]),
            "name": rows[0].task,
            "cards": [_card(row) for row in rows],
        }
        for rows in _shown(found)
    ]
    return {"tasks": tasks} if tasks else None


def subgroups_view(found: Found) -> dict | None:
    """The metric within the groups of every grouping column, by task and first seed."""
    tasks = []
    for rows in _shown(found):
        tables = []
        for place, row in enumerate(rows):
            header, cells = subgroup_table(row.results[0])
            if cells:
                label = f"{row.model}, {row.method}"
                name = f"groups-{task_anchor(row)}-{place}"
                tables.append((label, PageTable(name, f"subgroups of {label}", header, cells)))
        if tables:
            tasks.append({"name": f"{rows[0].task}: {metric_text(rows[0])}", "tables": tables})
    return {"tasks": tasks} if tasks else None


def _card(row: Row) -> dict:
    first = row.results[0]
    return {
        "method": row.method,
        "model": row.model,
        "value": with_interval(first.score),
        "metric": metric_text(row),
        "seed": first.seed,
        "picture": figures.predictions(first),
        "reliability": first.calibration and figures.reliability(first.calibration),
        "calibration": calibration_lines(first),
    }


def elsewhere_view(found: Found) -> dict | None:
    """Published numbers of another split or protocol, each task's once."""
    by_task = {row.task: row.published for row in found.rows}
    cells = [
        (task, item.name, number(item.value), item.note or MISSING, item.source)
        for task, published in by_task.items()
        for item in published
        if not item.comparable
    ]
    header = ("task", "model", "value", "what differs", "source")
    table = PageTable("published", "published under another protocol", header, cells, main=2)
    return {"table": table} if cells else None
