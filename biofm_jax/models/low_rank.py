"""A parameter with a low-rank change beside it, as LoRA trains it (Hu et al. 2021, 2106.09685)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRank:
    """Stands in a parameter tree for the array `base + scale * a @ b`.

    The axes of `base` are those that `a` reads and then those that `b` writes; stacked by
    layer, all three have the layer axis first, so that a scan cuts them together.

    Attributes:
        base: (*inputs, *outputs), any float dtype.
        a: (*inputs, rank).
        b: (rank, *outputs).
        scale: alpha / rank.
    """

    base: Any
    a: Any
    b: Any
    scale: float = dataclasses.field(metadata={"static": True})


def is_low_rank(leaf) -> bool:
    """Whether a node of a parameter tree is a `LowRank`."""
    return isinstance(leaf, LowRank)


def whole(leaf: LowRank):
    """The changed array of one layer, in the type of `a`."""
    return leaf.base.astype(leaf.a.dtype) + leaf.scale * jnp.tensordot(leaf.a, leaf.b, 1)


def input_axes(names: tuple[str | None, ...]) -> int:
    """How many of a weight's axes its product reads, by their logical names without "layers".

    A weight reads the model's width ("embed") where that comes first, and writes it where it
    comes last: all axes before it are read.

    Returns:
        The number; 0 for a vector, which no product reads.
    """
    if len(names) < 2:
        return 0
    return len(names) - 1 if names[-1] == "embed" and names[0] != "embed" else 1


def factor_axes(names: tuple[str | None, ...]) -> tuple[tuple, tuple]:
    """The logical names of the axes of `a` and of `b`, from those of one layer's weight."""
    count = input_axes(names)
    return (*names[:count], None), (None, *names[count:])
