"""`biofm sweep`: expand a grid, check every cell, run what is not done, gather."""

import dataclasses
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from biofm_jax import compare
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.lora_tuning import LoraSpec
from biofm_jax.adapt.methods import Tuning
from biofm_jax.data.sequence import SequenceData
from biofm_jax.errors import UserError
from biofm_jax.evaluate.task import get_task
from biofm_jax.experiment import Experiment
from biofm_jax.sweep.budget import Match, cost, match_budget
from biofm_jax.sweep.cells import LOG, Cell, Work, claimed, folder_name
from biofm_jax.sweep.checks import check
from biofm_jax.sweep.estimate import measured, seconds
from biofm_jax.sweep.gather import Outcome, gather, write
from biofm_jax.sweep.grid import Variant, expand, read_axes, shard, stem
from biofm_jax.sweep.processes import run_cell
from biofm_jax.train.stop import Stopped, StopSignal

CELLS = "cells"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Run an experiment with every combination of some values and every seed, and compare.

    Give `--over PATH=VALUE,VALUE` once for each field, with the paths of `biofm train`:

      biofm sweep experiments/ablations/masking_rate.py --over objective.rate=0.15,0.3 \\
          --over model.layers=2,4 --seeds 3 --task bbbp esol

    A field that holds one of several specs takes their names, with arguments if need be:
    `--over "model.positions=Rotary,ALiBi,Learned(maximum=256)"`. Members of a tuple are separated
    by spaces. `--over variant=a,b` takes variants of the experiment's file. A single value
    changes every cell.

    Every cell is a process with its own folder and log. Started again, the command skips what is
    finished, goes on with what is half-finished, and tries again what failed. Several processes
    on one machine, or on a shared file system, can work on one --out at the same time.

    Attributes:
        experiment: file.py or file.py:variant.
        over: PATH=VALUE,VALUE; may be given many times.
        seeds: number of seeds, from 0: of pretraining, adaptation and control.
        match: give every cell the tokens, or the model FLOPs, of the first one, by changing its
            number of steps (and of warm-up steps with it).
        task: what to evaluate each cell on (`biofm list tasks`); without one, held-out losses
            are compared.
        method: how to adapt for the tasks.
        fraction: shares of the labels in %, such as 3 10 30 100: every cell is adapted with each,
            and labels_TASK.png shows the curves.
        finetune: how to fine-tune.
        lora: how to tune adapters.
        out: folder of cells, results, table.md and pictures; by default runs/NAME_sweep.
        shard: i/n, i from 0: run every n-th cell only. In a SLURM job array that is the default.
        dry_run: show the grid and its costs, and run nothing; the minutes are of training, by the
            speed of the runs in --out.
        json: print JSON instead of tables.
    """

    experiment: tyro.conf.Positional[str]
    over: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    seeds: int = 3
    match: Match = "none"
    task: tuple[str, ...] = ()
    method: compare.Evaluate.__annotations__["method"] = ("probe",)
    fraction: tuple[float, ...] = ()
    finetune: FinetuneSpec = FinetuneSpec()
    lora: LoraSpec = LoraSpec()
    out: Path | None = None
    shard: str = ""
    dry_run: bool = False
    json: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """A checked sweep.

    Attributes:
        cells: all of them, the seeds of a variant apart so that each round compares all variants.
        mine: those of this process.
        work: what is evaluated.
        facts: of each label, from `checks.check`.
        out: the folder.
        same_targets: whether held-out losses can be compared.
    """

    cells: list[Cell]
    mine: list[Cell]
    work: Work
    facts: dict[str, dict]
    out: Path
    same_targets: bool


def make_plan(options: Sweep) -> Plan:
    """Expand a sweep and check every cell; nothing is written.

    Raises:
        UserError: whatever would stop a cell later and can be known now.
    """
    part, parts = shard(options.shard, os.environ)
    if options.seeds < 1:
        raise UserError(f"--seeds is {options.seeds}; it must be 1 or more")
    axes = read_axes(options.over)
    several = {axis.path for axis in axes if len(axis.values) > 1}
    if options.match != "none" and "loop.steps" in several:
        raise UserError("--over loop.steps: --match chooses the steps; give one of the two")
    if options.fraction and not options.task:
        raise UserError("--fraction is of a task's labels: give --task, or leave it out")
    methods = compare.limited(options.method, options.fraction)
    found = compare.plan(options.task, methods, options.seeds) if options.task else []
    pairs = tuple((task.name, method) for task, method in found)
    variants = expand(options.experiment, axes)
    first, keep_warmup = variants[0].experiment, "optimizer.warmup" in several
    matched = [
        _measured_at_the_end(
            Variant(v.label, match_budget(v.experiment, first, options.match, keep_warmup)),
            evaluated=bool(pairs),
        )
        for v in variants
    ]
    for variant in matched:
        _check_modality(variant, pairs)
        cost(variant.experiment)  # the data can be read
    facts = check({v.label: v.experiment for v in matched}, sorted({task for task, _ in pairs}))
    out = options.out or Path("runs") / f"{stem(options.experiment)}_sweep"
    cells = [
        Cell(v.label, seed, _seeded(v.experiment, seed), out / CELLS / folder_name(v.label, seed))
        for seed in range(options.seeds)
        for v in matched
    ]
    for cell in cells:
        cell.check()
    tuning = Tuning(options.finetune, options.lora)
    work = Work(pairs, tuning, out / "results", shlex.join(["biofm", *sys.argv[1:]]))
    return Plan(cells, cells[part::parts], work, facts, out, _same_targets(matched))


def dry_run(plan: Plan) -> list[dict]:
    """One line for each cell of this process, and the sum: what it costs and where it stands."""
    folders = [p for p in (plan.out / CELLS).glob("*") if p.is_dir()]
    speeds = measured(folders)
    lines, total = [], 0.0
    for cell in plan.mine:
        spent = cost(cell.experiment)
        done = max((row["step"] for row in cell.rows()), default=0)
        left = seconds(cell.experiment, done, speeds)
        total = None if left is None or total is None else total + left
        lines.append(
            {
                "cell": cell.label,
                "seed": cell.seed,
                "state": cell.state(plan.work),
                "parameters": plan.facts[cell.label]["parameters"],
                "steps": spent.steps,
                "tokens": spent.tokens,
                "TFLOPs": spent.flops / 1e12,
                "minutes left": _minutes(left),
            }
        )
    summed = {name: sum(line[name] for line in lines) for name in ("steps", "tokens", "TFLOPs")}
    return [*lines, {"cell": "all", **summed, "minutes left": _minutes(total)}]


def run(plan: Plan, progress: Callable[[str], None]) -> Outcome:
    """Run the cells of this process, then gather all that is there.

    A cell that fails does not stop the rest; a cell that another process works on is left to it.

    Args:
        plan: from `make_plan`.
        progress: takes a line before and after each cell.

    Raises:
        Stopped: after SIGTERM or Ctrl-C; the cell that ran has saved a checkpoint.
    """
    with StopSignal() as stop:
        for number, cell in enumerate(plan.mine, 1):
            title = f"[{number}/{len(plan.mine)}] {cell.name}"
            with claimed(cell.folder) as claim:
                if cell.finished(plan.work):
                    progress(f"{title}: finished before")
                elif claim is None:
                    progress(f"{title}: running in another process")
                else:
                    steps = cell.experiment.loop.steps
                    progress(f"{title}: {steps:,} steps, log in {cell.folder / LOG}")
                    began = time.monotonic()
                    error = run_cell(cell, plan.work, claim, stop)
                    if stop.number is None:
                        took = f"{time.monotonic() - began:,.0f} s"
                        progress(f"{title}: {f'failed: {error}' if error else f'done, {took}'}")
            if stop.number is not None:
                name = signal.Signals(stop.number).name
                raise Stopped(f"stopped by {name}; the same command goes on from there")
    outcome = gather(plan.cells, plan.work, plan.same_targets)
    write(outcome, plan.out)
    return outcome


def _measured_at_the_end(variant: Variant, evaluated: bool) -> Variant:
    """The variant with a held-out loss after the last step, where nothing else is measured."""
    experiment = variant.experiment
    if evaluated or experiment.loop.eval_every:
        return variant
    if not experiment.data.holdout:
        raise UserError(
            f"{variant.label}: data.holdout is 0 and no --task is given, so there is nothing to "
            "compare; give one of the two"
        )
    loop = dataclasses.replace(experiment.loop, eval_every=experiment.loop.steps)
    return Variant(variant.label, dataclasses.replace(experiment, loop=loop))


def _check_modality(variant: Variant, pairs) -> None:
    kind = variant.experiment.data.kind
    for name, _ in pairs:
        if (modality := get_task(name).modality) != kind:
            raise UserError(
                f"{name} is a task of {modality} models; {variant.label} reads {kind} data"
            )


def _same_targets(variants: list[Variant]) -> bool:
    """Whether all held-out losses are means over the same targets."""
    targets = set()
    for experiment in (variant.experiment for variant in variants):
        data = experiment.data
        cut = (data,)
        if isinstance(data, SequenceData):
            text = data.tokenizer().fingerprint()
            cut = (data.path, data.holdout, data.max_tokens, data.pack, text)
        targets.add((experiment.objective, *cut))
    return len(targets) == 1


def _seeded(experiment: Experiment, seed: int) -> Experiment:
    return dataclasses.replace(experiment, loop=dataclasses.replace(experiment.loop, seed=seed))


def _minutes(left: float | None) -> float | str:
    return "unknown" if left is None else round(left / 60, 1)
