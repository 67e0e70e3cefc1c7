"""What there is: experiments of the folder, published models, tasks, data formats."""

import ast
from pathlib import Path

from biofm_jax.data.imaging import ImageData
from biofm_jax.data.inspection import KINDS
from biofm_jax.errors import UserError
from biofm_jax.evaluate.domains import domain_of, place_of
from biofm_jax.evaluate.task import all_tasks
from biofm_jax.experiment import load_experiment
from biofm_jax.parity.ledger import read_ledger
from biofm_jax.zoo.registry import PUBLISHED


def experiments() -> list[dict]:
    """The experiment files under ./experiments: domain, objective, variants, first line."""
    rows = []
    for path in sorted(Path("experiments").glob("*/*.py")):
        try:
            experiment = load_experiment(str(path))
        except UserError as error:
            rows.append({"file": str(path), "about": f"cannot be read: {error}"})
            continue
        rows.append(
            {
                "file": str(path),
                "domain": path.parent.name.replace("_", " "),
                "modality": experiment.data.kind,
                "objective": type(experiment.objective).__name__,
                "about": _first_line(path.read_text()),
            }
        )
    return rows


def _first_line(text: str) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]


def models() -> list[dict]:
    """Published models that can be imported, in the survey's order, and their family's parity."""
    met = read_ledger(Path("PARITY.md"))
    return [
        {
            "name": model.name,
            "family": model.family.name,
            "domain": domain_of(model.modality),
            "modality": model.modality,
            "objective": model.objective,
            "parameters": model.parameters,
            "licence": model.licence,
            "parity": met.get(model.family.name, "run `biofm parity`"),
        }
        for model in sorted(PUBLISHED.values(), key=lambda model: place_of(model.modality))
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
        for kind, spec in (KINDS | {ImageData.kind: ImageData}).items()
    ]


LISTS = {"experiments": experiments, "models": models, "tasks": tasks, "data": data}
