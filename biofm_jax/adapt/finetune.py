"""Fine-tuning: all parameters, or all but some, with a new prediction head."""

import dataclasses
import re
from typing import Any

import jax

from biofm_jax.adapt.tuning import Tuned, TuningSpec
from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.train.optimizer import parameter_path
from biofm_jax.train.step import Base


@dataclasses.dataclass(frozen=True)
class FinetuneSpec(TuningSpec):
    """How to fine-tune.

    Attributes:
        freeze: regular expressions; parameters whose path matches one are not trained, such as
            "^embed" or "^blocks" (then only the head, and norms outside the blocks, learn).
    """

    freeze: tuple[str, ...] = ()

    def cut(self, model: Model, params: Any, seed: int) -> Tuned:
        """All parameters but the frozen ones.

        Raises:
            UserError: a pattern matches no parameter, or together they leave nothing to train.
        """
        if not self.freeze:
            return Tuned(model, params, None)
        paths = [parameter_path(path) for path, _ in jax.tree.leaves_with_path(params)]
        for pattern in self.freeze:
            if not any(re.search(pattern, path) for path in paths):
                raise UserError(
                    f"finetune.freeze: {pattern!r} matches no parameter; there are "
                    f"{', '.join(paths[:8])} and {max(0, len(paths) - 8)} more"
                )
        frozen = {p for p in paths if any(re.search(pattern, p) for pattern in self.freeze)}
        if len(frozen) == len(paths):
            raise UserError(f"finetune.freeze: {self.freeze} freezes every parameter")
        axes = model.axes(params)

        def trained(tree):
            return _part(tree, lambda path: path not in frozen)

        def base(tree):
            return _part(tree, frozen.__contains__)

        part = dataclasses.replace(
            model,
            init=lambda rng, batch: trained(model.init(rng, batch)),
            axes=lambda _: trained(axes),
        )
        return Tuned(part, trained(params), Base(base(params), base(axes), _joined))


def _part(tree: dict, wanted, start: str = "") -> dict:
    """The leaves of a nested dict whose path is wanted; empty dicts are left out."""
    found = {}
    for name, value in tree.items():
        path = f"{start}/{name}" if start else name
        if isinstance(value, dict):
            if inner := _part(value, wanted, path):
                found[name] = inner
        elif wanted(path):
            found[name] = value
    return found


def _joined(one: dict, other: dict) -> dict:
    """Two parts of a nested dict as one."""
    joined = {**one, **other}
    for name in one.keys() & other.keys():
        joined[name] = _joined(one[name], other[name])
    return joined
