"""How long cells will take, from the speed of runs that are there already."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from biofm_jax.errors import UserError
from biofm_jax.experiment import EXPERIMENT, Experiment, load_experiment
from biofm_jax.sweep.budget import cost, document_lengths, token_flops
from biofm_jax.train.logging import METRICS, read_metrics


@dataclasses.dataclass(frozen=True)
class Speed:
    """What a run measured.

    Attributes:
        experiment: the run, without seed and number of steps.
        tokens: unpadded tokens a second, the median of the logged ones.
    """

    experiment: Experiment
    tokens: float


def measured(folders: Sequence[Path]) -> list[Speed]:
    """The speeds of the runs in some folders; those that cannot be read are left out.

    The first logged row is not used, since it waited for the compilation.
    """
    speeds = []
    for folder in folders:
        rates = [row.get("tokens_per_second", 0.0) for row in read_metrics(folder / METRICS)][1:]
        try:
            experiment = load_experiment(str(folder / EXPERIMENT))
        except (UserError, OSError, json.JSONDecodeError):
            continue
        if rates and median(rates) > 0:
            speeds.append(Speed(_shape(experiment), median(rates)))
    return speeds


def seconds(experiment: Experiment, done: int, speeds: Sequence[Speed]) -> float | None:
    """Seconds of training that are left, without compiling and evaluating.

    Args:
        experiment: the cell.
        done: steps that are behind it.
        speeds: from `measured`. The same experiment with another seed or length counts most;
            without one, all count by their model FLOPs a second.

    Returns:
        An estimate, or None where nothing was measured.
    """
    whole, left = cost(experiment), 1 - done / experiment.loop.steps
    same = [speed.tokens for speed in speeds if speed.experiment == _shape(experiment)]
    if same:
        return whole.tokens * document_lengths(experiment.data).fill * left / median(same)
    if speeds:
        rates = [speed.tokens * token_flops(speed.experiment) for speed in speeds]
        return whole.flops * left / median(rates)
    return None


def _shape(experiment: Experiment) -> Experiment:
    """The experiment with what does not change the time of a step left out."""
    loop = dataclasses.replace(
        experiment.loop, seed=0, steps=1, log_every=1, eval_every=0, checkpoint_every=1, keep=1
    )
    optimizer = dataclasses.replace(experiment.optimizer, warmup=0)
    return dataclasses.replace(experiment, loop=loop, optimizer=optimizer, tasks=())
