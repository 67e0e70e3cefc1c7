"""Evaluation of a run: the model, its control and the baselines on some tasks."""

import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import tyro

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.finetune import FinetuneSpec, finetune_adapter
from biofm_jax.adapt.labelled import Adapter
from biofm_jax.adapt.probe import Kind, probe_adapter
from biofm_jax.errors import UserError
from biofm_jax.evaluate.run import Contender, evaluate
from biofm_jax.evaluate.table import Row
from biofm_jax.evaluate.task import Task, all_tasks, get_task
from biofm_jax.experiment import load_encoder


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Adapt a model to tasks and score it beside its control and the tasks' baselines.

    Attributes:
        model: folder of a finished run (its last checkpoint; FOLDER@best for the best one), or
            random:EXPERIMENT.py for an untrained control.
        task: names of `biofm list tasks`; a pattern such as flip_gb1/* takes several.
        method: probe (linear model on frozen features) and/or finetune (all parameters).
        seeds: number of seeds, from 0: each is one adaptation and one control.
        out: folder of the result files; baselines there are computed once.
        finetune: how to fine-tune.
        dry_run: show what would run.
        json: print JSON instead of a table.
    """

    model: tyro.conf.Positional[str]
    task: tuple[str, ...]
    method: tuple[Literal["probe", "finetune"], ...] = ("probe",)
    seeds: int = 3
    out: Path = Path("results")
    finetune: FinetuneSpec = FinetuneSpec()
    dry_run: bool = False
    json: bool = False


def plan(patterns: Sequence[str], methods: Sequence[str], seeds: int) -> list[tuple[Task, str]]:
    """The (task, method) pairs of an evaluation, in order.

    Raises:
        UserError: an unknown task, or no seed.
    """
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}; it must be 1 or more")
    names = []
    for pattern in patterns:
        found = fnmatch.filter(all_tasks(), pattern)
        names += found or [get_task(pattern).name]
    return [(get_task(name), method) for name in dict.fromkeys(names) for method in methods]


def run(
    model: str,
    pairs: Sequence[tuple[Task, str]],
    seeds: int,
    finetune: FinetuneSpec,
    out: Path,
    progress: Callable[[str], None],
) -> list[Row]:
    """Evaluate a model on (task, method) pairs.

    Args:
        model: as `load_encoder` reads it.
        pairs: from `plan`.
        seeds: number of seeds.
        finetune: how to fine-tune.
        out: folder of the result files.
        progress: takes a line before each piece of work.

    Returns:
        One row per pair.

    Raises:
        UserError: the model's modality is not a task's, or its data is missing.
    """
    encoder = load_encoder(model)
    for task, _ in pairs:
        if task.modality != encoder.data.kind:
            raise UserError(
                f"{task.name} is a task of {task.modality} models; {model} reads "
                f"{encoder.data.kind}"
            )
    adapters = _Adapters(finetune)
    control = None if encoder.params is None else encoder.control()
    return [
        evaluate(
            task,
            Contender(
                model=encoder.name,
                method=method,
                adapter=adapters.of(encoder, method, task.kind),
                control=None if control is None else adapters.of(control, method, task.kind),
            ),
            seeds=range(seeds),
            out=out,
            progress=progress,
        )
        for task, method in pairs
    ]


class _Adapters:
    """Adapters by model, method and kind of label, kept: a probe embeds each text only once."""

    def __init__(self, finetune: FinetuneSpec):
        self._finetune = finetune
        self._features: dict[str, Callable] = {}
        self._kept: dict[tuple, Adapter] = {}

    def of(self, encoder: Encoder, method: str, kind: Kind) -> Adapter:
        key = encoder.name, method, kind
        if key not in self._kept:
            self._kept[key] = self._make(encoder, method, kind)
        return self._kept[key]

    def _make(self, encoder: Encoder, method: str, kind: Kind) -> Adapter:
        if method == "finetune":
            return finetune_adapter(encoder, self._finetune, kind, show=True)
        features = self._features.setdefault(
            encoder.name, functools.cache(encoder.features_for_seeds())
        )
        return probe_adapter(features, kind)
