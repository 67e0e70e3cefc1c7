"""Smaller steps for lower layers: what was learned first changes least."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from biofm_jax.errors import UserError
from biofm_jax.train.optimizer import OptimizerSpec

BELOW = ("embed", "relative")  # parts of a model that come before its blocks


@dataclasses.dataclass(frozen=True)
class LayerDecay(OptimizerSpec):
    """An optimizer whose learning rate falls from layer to layer towards the input.

    The head and the final norm learn at the full rate, the last block at `layer_decay` times
    that, the one below at its square, and so on to the embeddings (ELECTRA, arXiv 2003.10555,
    appendix B; BEiT, 2106.08254).

    Attributes:
        layer_decay: factor from one layer to the next, above 0 and at most 1.
    """

    layer_decay: float = 0.9

    def build(self, steps: int, axes) -> optax.GradientTransformation:
        """As of `OptimizerSpec`.

        Raises:
            UserError: a factor out of range.
        """
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"layer_decay is {self.layer_decay}; it must be above 0, at most 1")
        return optax.chain(super().build(steps, axes), scale_by_layer(self.layer_decay))


def scale_by_layer(decay: float) -> optax.GradientTransformation:
    """Scale the updates of a model's parts by their distance from its output.

    Works on a tree whose "blocks" are stacked by layer (l, ...); whatever is neither those nor
    below them stands above them.
    """

    def update(updates, state, params=None):
        stacked = jax.tree.leaves(updates.get("blocks", {}))
        layers = stacked[0].shape[0] if stacked else 0
        rates = decay ** jnp.arange(layers, 0, -1, dtype=jnp.float32)
        scaled = {}
        for name, part in updates.items():
            if name == "blocks":
                scaled[name] = jax.tree.map(
                    lambda u: u * rates.reshape(-1, *(1,) * (u.ndim - 1)), part
                )
            else:
                factor = decay ** (layers + 1) if name in BELOW else 1.0
                scaled[name] = jax.tree.map(lambda u, factor=factor: u * factor, part)
        return scaled, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
