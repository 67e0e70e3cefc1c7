"""The domains of the survey (arXiv 2503.02104) and the modalities of each, in its order."""

from collections.abc import Sequence

from biofm_jax.evaluate.table import Row
from biofm_jax.evaluate.task import all_tasks

DOMAINS = {
    "computational biology": ("genome", "rna", "cell", "protein"),
    "drug discovery": ("molecule", "affinity", "knowledge_graph", "trial"),
    "clinical informatics": ("ehr", "notes"),
    "medical imaging": ("imaging", "imaging_text"),
    "public health": ("epidemic", "social"),
}
OTHER = "other"

# Domain, then (modality, then the rows of each task and state of its data).
Grouped = list[tuple[str, list[tuple[str, list[list[Row]]]]]]


def domain_of(modality: str) -> str:
    """The domain of a modality; `OTHER` for one that the survey does not have."""
    return next((name for name, held in DOMAINS.items() if modality in held), OTHER)


def place_of(modality: str) -> int:
    """The place of a modality in the survey's order; others come after all of it."""
    order = sum(DOMAINS.values(), ())
    return order.index(modality) if modality in order else len(order)


def modality_of(task: str) -> str:
    """The modality of a task by name; `OTHER` for a task that this version does not know."""
    tasks = all_tasks()
    return tasks[task].modality if task in tasks else OTHER


def by_task(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each task and state of its data, in the order of `grouped`."""
    return [task for _, modalities in grouped(rows) for _, tasks in modalities for task in tasks]


def grouped(rows: Sequence[Row]) -> Grouped:
    """Rows by domain, modality, and task with its data; other tasks come last.

    Domains and modalities stand in the survey's order, tasks in that of their names, the rows of
    a task as given.
    """
    tasks: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        tasks.setdefault((row.task, row.results[0].data), []).append(row)
    modalities: dict[str, list[list[Row]]] = {}
    for (task, _), found in sorted(tasks.items()):
        modalities.setdefault(modality_of(task), []).append(found)
    domains: dict[str, list[tuple[str, list[list[Row]]]]] = {}
    for modality in sorted(modalities, key=lambda name: (place_of(name), name)):
        domains.setdefault(domain_of(modality), []).append((modality, modalities[modality]))
    return list(domains.items())
