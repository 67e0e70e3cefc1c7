"""What a run costs, and runs of equal cost."""

import dataclasses
import functools
from typing import Literal

from biofm_jax.data.api import DataSpec, Lengths
from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment

Match = Literal["none", "tokens", "flops"]


@functools.cache
def document_lengths(data: DataSpec) -> Lengths:
    """Read the lengths of a data set; it is prepared if that was never done.

    Raises:
        UserError: as `DataSpec.open`; data whose rows nobody has counted yet.
    """
    if (found := data.lengths()) is None:
        raise UserError(f"the cost of rows of {type(data).__name__} is not counted")
    return found


def step_tokens(experiment: Experiment) -> int:
    """Token places of a step: rows x tokens of a row, both views of a pair counted."""
    rows = experiment.loop.batch_size * (2 if experiment.objective.views else 1)
    return rows * experiment.data.max_tokens


def token_flops(experiment: Experiment, attended: float | None = None) -> float:
    """Model FLOPs of training on one token.

    Args:
        experiment: the run.
        attended: mean length of the document a token stands in; None: read from the data.
    """
    data, objective = experiment.data, experiment.objective
    attended = document_lengths(data).attended if attended is None else attended
    row = data.shapes(1)
    return objective.batch_flops(experiment.model, row, attended) / row.tokens.size


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a whole run costs.

    Attributes:
        steps: optimizer updates.
        tokens: token places of all steps.
        flops: model FLOPs of all steps, for the places that are no padding.
    """

    steps: int
    tokens: int
    flops: float


def cost(experiment: Experiment) -> Cost:
    """The cost of a run of `loop.steps`.

    Raises:
        UserError: the data cannot be read.
    """
    tokens = experiment.loop.steps * step_tokens(experiment)
    real = tokens * document_lengths(experiment.data).fill
    return Cost(experiment.loop.steps, tokens, real * token_flops(experiment))


def match_budget(
    experiment: Experiment, reference: Experiment, match: Match, keep_warmup: bool
) -> Experiment:
    """The experiment with the number of steps that makes it cost what the reference costs.

    Args:
        experiment: to be made longer or shorter.
        reference: whose cost is the budget.
        match: equal tokens, equal model FLOPs, or the experiment as it is.
        keep_warmup: leave `optimizer.warmup` as it is instead of keeping its share of the run.

    Raises:
        UserError: not even one step fits into the budget, or the data cannot be read.
    """
    if match == "none":
        return experiment
    budget, own = getattr(cost(reference), match), getattr(cost(experiment), match)
    loop, optimizer = experiment.loop, experiment.optimizer
    steps = round(loop.steps * budget / own)
    if steps < 1:
        raise UserError(
            f"a single step costs more {match} than the whole budget of {budget:.3g}; raise "
            "loop.steps or lower loop.batch_size"
        )
    warmup = optimizer.warmup if keep_warmup else round(optimizer.warmup * steps / loop.steps)
    return dataclasses.replace(
        experiment,
        loop=dataclasses.replace(loop, steps=steps),
        optimizer=dataclasses.replace(optimizer, warmup=warmup),
    )
