"""Run the variants of an experiment over several seeds and compare them on tasks."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.probe import probe_adapter
from biofm_jax.evaluate.comparison import comparison_figure
from biofm_jax.evaluate.run import Contender, evaluate
from biofm_jax.evaluate.table import Row, to_markdown
from biofm_jax.evaluate.task import get_task
from biofm_jax.experiment import Experiment, load_encoder, train
from biofm_jax.files import write_whole
from biofm_jax.train.compile_cache import enable_compile_cache
from biofm_jax.train.host_memory import keep_freed_memory


def run_ablation(
    variants: Mapping[str, Experiment], tasks: Sequence[str], seeds: int, out: Path
) -> list[Row]:
    """Train every variant with every seed, probe each on every task, write table and plot.

    A seed is that of parameters, order and masks in pretraining, and of the control's random
    parameters. Run again, it goes on where it stopped.

    Args:
        variants: name -> experiment; the name is the row's model.
        tasks: names of tasks.
        seeds: number of seeds, from 0.
        out: folder of runs, results, `table.md` and `comparison.png`.

    Returns:
        One row per task and variant.
    """
    keep_freed_memory()
    enable_compile_cache()
    console = Console(stderr=True)
    for name, experiment in variants.items():
        for seed in range(seeds):
            loop = dataclasses.replace(experiment.loop, seed=seed)
            train(dataclasses.replace(experiment, loop=loop), _workdir(out, name, seed))
    rows = []
    for name in variants:
        encoder = functools.cache(
            lambda seed, name=name: load_encoder(str(_workdir(out, name, seed)))
        )
        features = functools.cache(lambda seed, encoder=encoder: encoder(seed).features(seed))
        control: Encoder = encoder(0).control()
        for task in map(get_task, tasks):
            contender = Contender(
                model=name,
                method="probe",
                adapter=probe_adapter(features, task.kind),
                control=probe_adapter(control.features_for_seeds(), task.kind),
            )
            rows.append(
                evaluate(
                    task,
                    contender,
                    seeds=range(seeds),
                    out=out / "results",
                    progress=lambda line: console.print(line, highlight=False),
                )
            )
    rows.sort(key=lambda row: tasks.index(row.task))
    write_whole(out / "table.md", to_markdown(rows))
    write_whole(out / "comparison.png", comparison_figure(rows))
    return rows


def _workdir(out: Path, name: str, seed: int) -> Path:
    return out / f"{name}_{seed}"
