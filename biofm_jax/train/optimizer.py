"""Optimizers and learning-rate schedules, from optax."""

import dataclasses
import re
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from biofm_jax.errors import UserError
from biofm_jax.models.api import BUFFER


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer and its schedule.

    Attributes:
        name: "adamw" (Loshchilov and Hutter 2019), "lion" (Chen et al. 2023) or "muon"
            (Jordan et al. 2024; matrices of the layers by Muon, the rest by AdamW).
        learning_rate: the peak.
        schedule: what follows the linear warm-up; "inverse_sqrt" falls as 1/sqrt(step).
        warmup: steps of linear warm-up from 0.
        final: the last learning rate as a fraction of the peak, for "cosine" and "linear".
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled weight decay, per step and unit of learning rate.
        no_decay: regular expressions; a parameter whose path matches one is not decayed.
        freeze: regular expressions; a parameter whose path matches one is not trained.
        clip_norm: gradients are scaled down to this global norm; 0 for no clipping.
    """

    name: Literal["adamw", "lion", "muon"] = "adamw"
    learning_rate: float = 4e-4
    schedule: Literal["constant", "cosine", "linear", "inverse_sqrt"] = "cosine"
    warmup: int = 100
    final: float = 0.1
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    weight_decay: float = 0.01
    no_decay: tuple[str, ...] = (r"bias$", r"scale$", r"norm", r"tokens$", r"positions$", r"types$")
    freeze: tuple[str, ...] = ()
    clip_norm: float = 1.0

    def rate(self, steps: int) -> optax.Schedule:
        """The learning rate as a function of the step, for a run of `steps` steps.

        Raises:
            UserError: a negative rate or warm-up.
        """
        if self.learning_rate < 0 or self.warmup < 0:
            raise UserError("optimizer.learning_rate and optimizer.warmup must be 0 or more")
        peak, rest = self.learning_rate, max(1, steps - self.warmup)
        if self.schedule == "cosine":
            after = optax.cosine_decay_schedule(peak, rest, alpha=self.final)
        elif self.schedule == "linear":
            after = optax.linear_schedule(peak, peak * self.final, rest)
        elif self.schedule == "inverse_sqrt":
            start = max(1, self.warmup)

            def after(step):  # also called, and not used, with the negative steps of warm-up
                return peak * (start / (jnp.maximum(step, 0) + start)) ** 0.5
        else:
            after = optax.constant_schedule(peak)
        if self.warmup == 0:
            return after
        # The first step already learns: 1/warmup of the peak, not 0.
        warm = optax.linear_schedule(peak / self.warmup, peak, max(1, self.warmup - 1))
        return optax.join_schedules([warm, after], [self.warmup])

    def build(self, steps: int, axes) -> optax.GradientTransformation:
        """The optimizer for parameters with the given logical axis names.

        Args:
            steps: length of the run, which the schedule needs.
            axes: tree of tuples of names, from `Model.axes`.

        Raises:
            UserError: a pattern of `freeze` that matches no parameter.
        """
        rate = self.rate(steps)
        decay = _matching(axes, self.no_decay, negate=True)
        if self.name == "adamw":
            update = optax.adamw(
                rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay, mask=decay
            )
        elif self.name == "lion":
            update = optax.lion(rate, self.b1, self.b2, weight_decay=self.weight_decay, mask=decay)
        else:
            # optax would decay all that Adam updates, biases too: decay comes after it instead.
            direction = optax.contrib.muon(
                -1.0,
                beta=0.95,
                adam_b1=self.b1,
                adam_b2=self.b2,
                muon_weight_dimension_numbers=jax.tree.map(_matrix, axes, is_leaf=_is_names),
            )
            update = optax.chain(
                direction,
                optax.add_decayed_weights(self.weight_decay, decay),
                optax.scale_by_learning_rate(rate),
            )
        if self.clip_norm > 0:
            update = optax.chain(optax.clip_by_global_norm(self.clip_norm), update)
        for pattern in self.freeze:
            if not any(jax.tree.leaves(_matching(axes, (pattern,), negate=False))):
                raise UserError(f"optimizer.freeze: {pattern!r} matches no parameter")
        frozen = jax.tree.map(
            lambda matches, names: matches or BUFFER in names,
            _matching(axes, self.freeze, negate=False),
            axes,
        )
        if any(jax.tree.leaves(frozen)):
            labels = jax.tree.map(lambda still: "frozen" if still else "trained", frozen)
            update = optax.partition({"frozen": optax.set_to_zero(), "trained": update}, labels)
        return update


def _is_names(leaf) -> bool:
    return isinstance(leaf, tuple)


def parameter_path(path) -> str:
    """A key path of a parameter tree as text: `layers/attention/qkv/kernel`."""
    return "/".join(str(getattr(key, "key", key)) for key in path)


def _matching(axes, patterns, *, negate):
    """Tree of bools: whether a parameter's path matches one of the patterns."""

    def matches(path, _):
        found = any(re.search(pattern, parameter_path(path)) for pattern in patterns)
        return found != negate

    return jax.tree_util.tree_map_with_path(matches, axes, is_leaf=_is_names)


def _matrix(names):
    """How Muon sees a stacked parameter as a matrix, or None where Adam is used.

    The layer axis, and the axis that stacks queries, keys and values (or a gate), are batches
    of matrices; heads are part of the input or output axis. Biases and scales are no matrices.
    """
    inner = [i for i, name in enumerate(names) if name != "layers"]
    if "layers" not in names or "embed" not in names or len(inner) < 2:
        return None
    if names[inner[0]] == "embed":
        reduction = inner[:1]
        output = [i for i in inner[1:] if names[i] is not None or i > inner[1]]
    else:
        reduction, output = inner[:-1], inner[-1:]
    return optax.contrib.MuonDimensionNumbers(tuple(reduction), tuple(output))
