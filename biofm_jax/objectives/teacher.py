"""A teacher: the moving average of the model's own parameters, kept in an objective's state.

An objective keeps it beside the number of steps done, `{"step": ..., "teacher": ...}`. It follows
the parameters at the beginning of a step, which is the same as after the update of the one before.
"""

import jax
import jax.numpy as jnp

from biofm_jax.array_types import PyTree
from biofm_jax.errors import UserError


def start_teacher(params: PyTree) -> dict:
    """The state at the start: the teacher is a copy."""
    return {"step": jnp.zeros((), jnp.int32), "teacher": jax.tree.map(jnp.copy, params)}


def momentum_at(step: jax.Array, start: float, steps: int) -> jax.Array:
    """How much of the teacher stays: from `start` to 1 along a cosine over `steps`; 0: constant."""
    if not steps:
        return jnp.float32(start)
    share = jnp.minimum(step.astype(jnp.float32) / steps, 1.0)
    return 1 - (1 - start) * (1 + jnp.cos(jnp.pi * share)) / 2


def followed(teacher: PyTree, params: PyTree, momentum: jax.Array) -> PyTree:
    """The teacher moved towards the parameters; no gradient goes through it."""

    def move(old, new):
        return momentum * old + (1 - momentum) * jax.lax.stop_gradient(new)

    return jax.tree.map(move, teacher, params)


def check_momentum(momentum: float, steps: int) -> None:
    """Refuse a teacher that runs away.

    Raises:
        UserError: names the field.
    """
    if not 0 <= momentum <= 1:
        raise UserError(f"objective.momentum is {momentum}; it must lie in [0, 1]")
    if steps < 0:
        raise UserError(
            f"objective.momentum_steps is {steps}; give the steps of the run, or 0 for a momentum "
            "that stays as it is"
        )
