"""Tuning by LoRA: adapters and a new head learn, the pretrained weights stay."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from biofm_jax.adapt.lora import Lora, adapter_axes, init_adapters, with_adapters
from biofm_jax.adapt.tuning import Tuned, TuningSpec
from biofm_jax.models.api import Model
from biofm_jax.train.step import Base


@dataclasses.dataclass(frozen=True)
class LoraSpec(TuningSpec):
    """How to tune adapters.

    Attributes:
        rank: of the change of each weight.
        alpha: the change is scaled by alpha / rank.
        targets: regular expressions; every weight whose path matches one gets an adapter.
        base: type in which the pretrained weights are kept while adapters train; bfloat16
            halves their memory and rounds them (XLA's CPU backend casts them all back).
    """

    learning_rate: float = 2e-3
    rank: int = Lora.rank
    alpha: float = Lora.alpha
    targets: tuple[str, ...] = Lora.targets
    base: Literal["float32", "bfloat16"] = "float32"

    def cut(self, model: Model, params: Any, seed: int) -> Tuned:
        """The adapters, which change nothing at first, and the head.

        Raises:
            UserError: a target that is no weight.
        """
        lora = Lora(self.rank, self.alpha, self.targets)
        axes = model.axes(params)
        pretrained, names = _without_head(params), _without_head(axes)

        def start(rng, head):
            return init_adapters(lora, pretrained, names, rng) | {"head": head}

        def init(rng, batch):
            return start(rng, model.init(rng, batch)["head"])

        def trained_axes(trained):
            return adapter_axes(_without_head(trained), names) | {"head": axes["head"]}

        def join(base, trained):
            joined = with_adapters(base, _without_head(trained), lora.scale)
            return joined | {"head": trained["head"]}

        kept = jax.tree.map(lambda leaf: jnp.asarray(leaf, self.base), pretrained)
        return Tuned(
            dataclasses.replace(model, init=init, axes=trained_axes),
            start(jax.random.key(seed), params["head"]),
            Base(kept, names, join),
        )


def _without_head(tree: dict) -> dict:
    return {name: part for name, part in tree.items() if name != "head"}
