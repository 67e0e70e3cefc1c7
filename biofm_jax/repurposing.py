"""Drug repurposing: tune a pretrained model of a graph, judge it, rank drugs for a disease."""

import csv
import dataclasses
import difflib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from biofm_jax.adapt.link_prediction import (
    LinkModel,
    LinkTuning,
    Prototypes,
    link_adapter,
    score_pairs,
    tuned_on,
)
from biofm_jax.data.knowledge_graph import KnowledgeGraph
from biofm_jax.data.links import LinkData
from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics_retrieval import recall_at_k
from biofm_jax.evaluate.run import Contender, rows_beside_baselines
from biofm_jax.evaluate.table import Row
from biofm_jax.evaluate.task import Dataset, Task, get_task, matching_tasks
from biofm_jax.evaluate.tasks.knowledge_graph import TREATS, load_indications
from biofm_jax.experiment import load_run
from biofm_jax.files import write_whole
from biofm_jax.interpret.graph_paths import Paths
from biofm_jax.models.relational import RelationalSpec


@dataclasses.dataclass(frozen=True)
class Repurpose:
    """Rank drugs for a disease, with the paths that speak for each, or judge the model.

    Attributes:
        model: the --workdir of a `biofm train` on a knowledge graph, such as
            experiments/drug_discovery/txgnn_link_prediction.py; FOLDER@best;
            random:EXPERIMENT.py for one that was not pretrained.
        disease: name of a disease in the graph, or its id.
        evaluate: score tasks beside the degree prior and a control that was not pretrained.
        task: of `evaluate`: names of `biofm list tasks`, where a pattern such as repurposing/*
            takes several; none means those of the experiment.
        tuning: on known treatments, those of the training folds in `evaluate`.
        prototypes: how diseases lean on similar ones.
        top: drugs in the table.
        paths: of each drug.
        out: CSV file (or JSON, by its ending) for the whole ranking.
        results: folder of the result files of `evaluate`.
        seeds: of `evaluate`, from 0.
        json: print JSON instead of a table.
    """

    model: tyro.conf.Positional[str]
    disease: str = ""
    evaluate: bool = False
    task: tuple[str, ...] = ()
    tuning: LinkTuning = LinkTuning()
    prototypes: Prototypes = Prototypes()
    top: int = 10
    paths: int = 2
    out: Path | None = None
    results: Path = Path("results")
    seeds: int = 1
    json: bool = False


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model of a graph without the answers.

    Attributes:
        name: as printed in tables.
        model: the architecture, and how neighbourhoods are drawn.
        graph: without the answers.
        tasks: that it is judged by.
        params: seed -> the trained parameters, or None for random ones.
    """

    name: str
    model: LinkModel
    graph: KnowledgeGraph
    tasks: tuple[str, ...]
    params: Callable[[int], Any]


def load_pretrained(options: Repurpose) -> Pretrained:
    """The model and its graph, once it is known that something is asked.

    Raises:
        UserError: neither a disease nor an evaluation is asked for; no such run, or one of
            another modality; no such disease; no such task, or one of another modality.
    """
    if not options.disease and not options.evaluate:
        raise UserError("give --disease NAME, or --evaluate True")
    if options.out is not None and options.out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {options.out} must end in .csv or .json")
    asked = matching_tasks(options.task)
    for task in asked:
        if task.modality != "knowledge_graph":
            raise UserError(f"--task {task.name} is of {task.modality}: use biofm evaluate")
    run = load_run(options.model)
    spec, data = run.experiment.model, run.experiment.data
    if not isinstance(spec, RelationalSpec) or not isinstance(data, LinkData):
        raise UserError(
            f"{options.model} was trained on {data.kind}, not on the facts of a knowledge graph; "
            "see experiments/drug_discovery/txgnn_link_prediction.py"
        )
    graph = data.open()
    spec.check_opened(graph)
    if options.disease:
        find_disease(graph, options.disease)
    params = None if run.params is None else jax.device_get(run.params)
    tasks = tuple(task.name for task in asked) or run.experiment.tasks
    return Pretrained(run.name, LinkModel(spec, data), graph, tasks, lambda seed: params)


def find_disease(graph: KnowledgeGraph, name: str) -> int:
    """The number of a disease, by name or id.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    known = {graph.names[i].lower(): int(i) for i in graph.of_type("Disease")}
    known |= {graph.ids[i].lower(): int(i) for i in graph.of_type("Disease")}
    wanted = name.lower()
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, 1, 0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"the graph has no disease {name!r}{hint}")


def ranking(found: Pretrained, options: Repurpose) -> list[dict]:
    """Every drug for a disease, best first, with the model's score and the best paths.

    The model is tuned on all known treatments, those of the disease among them: `known` says
    which drugs those are. Drugs that treat nothing yet are among its wrong answers. A known
    treatment of another disease may be a step of a path.

    Args:
        found: the model.
        options: disease, tuning, prototypes, and the paths of the 50 best drugs; the others
            have none.
    """
    graph = found.graph
    node, listed = find_disease(graph, options.disease), load_indications(None)
    treats = [pair for pair, kind in listed.items() if kind == "DM"]
    pairs = np.array([[graph.index[end] for end in pair] for pair in treats])
    every = dataclasses.replace(
        found.model, data=dataclasses.replace(found.model.data, every_node=True)
    )
    joined, tuned = tuned_on(every, graph, TREATS, pairs, found.params(0), options.tuning, 0)
    scored = score_pairs(found.model, joined, tuned, TREATS, options.prototypes)
    scores = scored.scores[:, np.searchsorted(scored.diseases, node)]
    degree = np.bincount(pairs[:, 0], minlength=len(graph.ids))
    search, rows = Paths(joined), []
    for rank, place in enumerate(np.argsort(-scores, kind="stable"), start=1):
        drug = int(scored.drugs[place])
        evidence = search.between(drug, node, options.paths) if rank <= 50 else []
        rows.append(
            {
                "rank": rank,
                "drug": graph.names[drug],
                "id": graph.ids[drug],
                "score": float(scores[place]),
                "known": listed.get((graph.ids[drug], graph.ids[node]), ""),
                "treats": int(degree[drug]),
                "paths": [
                    {"path": path.text(joined), "kind": path.kind(joined), "score": path.score}
                    for path in evidence
                ],
            }
        )
    return rows


def write_ranking(rows: Sequence[dict], path: Path) -> None:
    """Write a ranking as JSON or CSV, by the ending; in CSV the paths stand in one cell.

    Raises:
        UserError: another ending.
    """
    if path.suffix == ".json":
        write_whole(path, json.dumps(list(rows), indent=1) + "\n")
        return
    if path.suffix != ".csv":
        raise UserError(f"--out {path} must end in .csv or .json")
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(row | {"paths": " | ".join(p["path"] for p in row["paths"])} for row in rows)
    write_whole(path, text.getvalue())


def judged(found: Pretrained, options: Repurpose, progress: Callable[[str], None]) -> list[Row]:
    """The rows of every task: the model, its control without pretraining, the degree prior."""

    def adapter(params):
        return link_adapter(
            found.model, found.graph, TREATS, options.tuning, params, options.prototypes
        )

    contender = Contender(found.name, "tuned", adapter(found.params), adapter(lambda seed: None))
    rows = []
    for task in found.tasks:
        rows += rows_beside_baselines(
            get_task(task),
            contender,
            seeds=range(options.seeds),
            out=options.results,
            progress=progress,
        )
    return rows


def disease_recall(data: Dataset, predicted: np.ndarray, k: int) -> float:
    """Mean over diseases of the share of a disease's drugs among its k best, over tested pairs.

    Args:
        data: of a repurposing task with every drug for every disease.
        predicted: (n, 1) of its tested items.
        k: drugs looked at.
    """
    column = np.array([text.split(" ")[1] for text in data.tested.texts])
    values = []
    for disease in np.unique(column):
        rows = column == disease
        truth = data.tested.targets[rows, 0] == 1
        if truth.any():
            values.append(recall_at_k(truth[None], predicted[rows].T, k)[0])
    return float(np.mean(values))


def recalls(task: Task, rows: Sequence[Row], at: Sequence[int] = (10, 50)) -> list[dict]:
    """Recall@k of the first seed of each row of a task, and of its control."""
    data, found = task.data(None), []
    for row in rows:
        if row.task != task.name:
            continue
        kept = row.results[0].predictions
        for name, guess in ((row.model, kept.predicted), ("control", kept.control)):
            if guess is not None:
                values = {f"recall@{k}": disease_recall(data, guess, k) for k in at}
                found.append({"model": name, **values})
    return found
