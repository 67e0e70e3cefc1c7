"""Drug repurposing: pretrain on a graph without the answers, tune, judge, rank for a disease."""

import csv
import dataclasses
import difflib
import io
import json
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from biofm_jax import specs
from biofm_jax.adapt.link_prediction import (
    LinkTraining,
    Prototypes,
    link_adapter,
    score_pairs,
    tuned_on,
)
from biofm_jax.data.knowledge_graph import KnowledgeGraph
from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics_retrieval import recall_at_k
from biofm_jax.evaluate.provenance import provenance
from biofm_jax.evaluate.run import Contender, rows_beside_baselines
from biofm_jax.evaluate.table import Row
from biofm_jax.evaluate.task import Dataset, Task, get_task
from biofm_jax.evaluate.tasks.knowledge_graph import TREATS, load_hetionet, load_indications
from biofm_jax.files import write_whole
from biofm_jax.interpret.graph_paths import Paths

RECORD = "repurposing.json"


@dataclasses.dataclass(frozen=True)
class LinkExperiment:
    """A run on Hetionet's cut.

    Attributes:
        pretraining: on all facts but those between drugs and diseases.
        tuning: on known treatments; its model is that of the pretraining.
        prototypes: how diseases lean on similar ones.
        tasks: what it is judged on.
    """

    pretraining: LinkTraining
    tuning: LinkTraining
    prototypes: Prototypes = Prototypes()
    tasks: tuple[str, ...] = ("repurposing/hetionet", "repurposing/hetionet_disease")

    def check(self) -> None:
        """Refuse two phases of different models.

        Raises:
            UserError: names the field.
        """
        for name in ("width", "bases"):
            before, after = getattr(self.pretraining, name), getattr(self.tuning, name)
            if before != after:
                raise UserError(f"tuning.{name} is {after}, but pretraining.{name} is {before}")


@dataclasses.dataclass(frozen=True)
class Repurpose:
    """Rank drugs for a disease, with the paths that speak for each, or judge the model.

    Attributes:
        experiment: such as experiments/drug_discovery/txgnn_link_prediction.py, with :variant.
        disease: name of a disease in the graph, or its id.
        evaluate: score the tasks of the experiment beside the degree prior and a control that
            was not pretrained.
        workdir: of the pretraining, which goes on where it stopped.
        top: drugs in the table.
        paths: of each drug.
        out: CSV file (or JSON, by its ending) for the whole ranking.
        results: folder of the result files of `evaluate`.
        seeds: of `evaluate`, from 0.
        json: print JSON instead of a table.
    """

    experiment: tyro.conf.Positional[str]
    disease: str = ""
    evaluate: bool = False
    workdir: Path = Path("runs/repurposing")
    top: int = 10
    paths: int = 2
    out: Path | None = None
    results: Path = Path("results")
    seeds: int = 1
    json: bool = False


def load_link_experiment(name: str) -> LinkExperiment:
    """Read `file.py` or `file.py:variant`; the file ends in `link_experiment = ...`.

    Raises:
        UserError: no such file or variant, or it defines no experiment.
    """
    path, _, variant = name.partition(":")
    if not Path(path).is_file():
        raise UserError(f"there is no experiment file {path}")
    found = runpy.run_path(path)
    experiment, variants = found.get("link_experiment"), found.get("variants", {})
    if not isinstance(experiment, LinkExperiment):
        raise UserError(f"{path} must define `link_experiment = LinkExperiment(...)`")
    if variant and variant not in variants:
        raise UserError(f"{path} has no variant {variant!r}; it has {', '.join(variants)}")
    chosen = variants[variant] if variant else experiment
    chosen.check()
    return chosen


def pretrained(
    experiment: LinkExperiment, graph: KnowledgeGraph, workdir: Path, show: bool
) -> Callable[[int], Any]:
    """The pretrained parameters of any seed of the tuning: one run, in the workdir.

    Raises:
        UserError: the workdir belongs to another experiment.
    """
    record = workdir / RECORD
    own = specs.encode(experiment.pretraining)
    before = json.loads(record.read_text())["pretraining"] if record.exists() else own
    if specs.decode(before) != experiment.pretraining:
        raise UserError(f"{workdir} belongs to another pretraining; choose another --workdir")
    write_whole(record, json.dumps({"pretraining": own, **provenance()}, indent=1) + "\n")
    done = experiment.pretraining.fit(
        graph, workdir=workdir, experiment=own, title=workdir.name, show=show
    )
    params = jax.device_get(done.state.params)
    return lambda seed: params


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


def ranking(
    experiment: LinkExperiment, graph: KnowledgeGraph, params: Any, disease: str, paths: int
) -> list[dict]:
    """Every drug for a disease, best first, with the model's score and the best paths.

    The model is tuned on all known treatments, those of the disease among them: `known` says
    which drugs those are. Drugs that treat nothing yet are among its wrong answers. A known
    treatment of another disease may be a step of a path.

    Args:
        experiment: for tuning and prototypes.
        graph: without the answers.
        params: pretrained.
        disease: name or id.
        paths: of the 50 best drugs; the others have none.
    """
    node, listed = find_disease(graph, disease), load_indications(None)
    treats = [pair for pair, kind in listed.items() if kind == "DM"]
    pairs = np.array([[graph.index[end] for end in pair] for pair in treats])
    links = dataclasses.replace(experiment.tuning.links, every_node=True)
    tuning = dataclasses.replace(experiment.tuning, links=links)
    joined, tuned = tuned_on(graph, TREATS, pairs, params, tuning, 0)
    found = score_pairs(experiment.tuning, joined, tuned, TREATS, experiment.prototypes)
    scores = found.scores[:, np.searchsorted(found.diseases, node)]
    degree = np.bincount(pairs[:, 0], minlength=len(graph.ids))
    search, rows = Paths(joined), []
    for rank, place in enumerate(np.argsort(-scores, kind="stable"), start=1):
        drug = int(found.drugs[place])
        evidence = search.between(drug, node, paths) if rank <= 50 else []
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


def judged(
    experiment: LinkExperiment,
    graph: KnowledgeGraph,
    params: Callable[[int], Any],
    name: str,
    options: Repurpose,
    progress: Callable[[str], None],
) -> list[Row]:
    """The rows of every task: the model, its control without pretraining, the degree prior."""

    def adapter(of):
        return link_adapter(graph, TREATS, experiment.tuning, of, experiment.prototypes)

    contender = Contender(name, "tuned", adapter(params), adapter(lambda seed: None))
    rows = []
    for task in experiment.tasks:
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


def graph_for(options: Repurpose) -> KnowledgeGraph:
    """The graph without answers, once it is known that something is asked.

    Raises:
        UserError: neither a disease nor an evaluation is asked for, or a file is missing.
    """
    if not options.disease and not options.evaluate:
        raise UserError("give --disease NAME, or --evaluate True")
    if options.out is not None and options.out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {options.out} must end in .csv or .json")
    graph = load_hetionet(None)
    if options.disease:
        find_disease(graph, options.disease)
    return graph
