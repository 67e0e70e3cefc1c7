"""What there is: experiments of the folder, published models, tasks, data formats."""

import ast
from pathlib import Path

from biofm_jax.data.inspection import KINDS
from biofm_jax.errors import UserError
from biofm_jax.evaluate.domains import domain_of, place_of
from biofm_jax.evaluate.task import all_tasks
from biofm_jax.experiment import load_experiment
from biofm_jax.zoo.esm2 import ESM2


def experiments() -> list[dict]:
    """The experiment files under ./experiments: domain, objective, variants, first line."""
    rows = []
    for path in sorted(Path("experiments").glob("*/*.py")):
        try:
            experiment = load_experiment(str(path))
        except UserError as error:
            rows.append({"file": str(path), "about": f"cannot be read: {error}"})
            continue
        tree = ast.parse(path.read_text())
        rows.append(
            {
                "file": str(path),
                "domain": path.parent.name.replace("_", " "),
                "modality": experiment.data.kind,
                "objective": type(experiment.objective).__name__,
                "about": (ast.get_docstring(tree) or "").splitlines()[0],
            }
        )
    return rows


def models() -> list[dict]:
    """Published models whose architecture is here."""
    return [
        {
            "name": f"esm2_{size.lower()}",
            "domain": domain_of("protein"),
            "modality": "protein",
            "objective": "MaskedLM",
            "layers": spec.layers,
            "width": spec.width,
            "heads": spec.heads,
            "licence": "MIT",
        }
        for size, spec in ESM2.items()
    ]


def tasks() -> list[dict]:
    """Evaluation tasks in the survey's order, with metric, split and baselines."""
    return [
        {
            "task": task.name,
            "domain": domain_of(task.modality),
            "modality": task.modality,
            "metric": task.metric,
            "split": task.split,
            "baselines": ", ".join(task.baselines),
        }
        for task in sorted(all_tasks().values(), key=lambda task: place_of(task.modality))
    ]


def data() -> list[dict]:
    """Kinds of data that `biofm data prepare` reads."""
    return [
        {"kind": kind, "about": (spec.__doc__ or "").splitlines()[0]}
        for kind, spec in KINDS.items()
    ]


LISTS = {"experiments": experiments, "models": models, "tasks": tasks, "data": data}
