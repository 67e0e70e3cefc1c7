"""LoRA: low-rank changes beside frozen weights (Hu et al. 2021, arXiv 2106.09685).

The adapters are a tree of their own. What they change is named by regular expressions over
parameter paths such as `blocks/attention/qkv/kernel`, so any weight of any model can be: dense
kernels multiply through the factors, everything else (an embedding table) adds `a @ b` up.
"""

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp

from biofm_jax.errors import UserError
from biofm_jax.models.low_rank import LowRank, factor_axes, input_axes, whole
from biofm_jax.train.optimizer import parameter_path

FACTORS = {"a", "b"}


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which weights get adapters, and how large.

    Attributes:
        rank: columns of `a`, rows of `b`.
        alpha: the change is scaled by alpha / rank, so that another rank wants the same
            learning rate.
        targets: regular expressions; every weight whose path matches one gets an adapter. The
            queries, keys and values of a block are one weight and share one `a`.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = (r"attention/.*kernel$", r"feedforward/.*kernel$")

    def __post_init__(self):
        if self.rank < 1:
            raise UserError(f"lora.rank is {self.rank}; it must be 1 or more")

    @property
    def scale(self) -> float:
        """By what the product of the factors is multiplied."""
        return self.alpha / self.rank


def init_adapters(lora: Lora, params: Any, axes: Any, rng: jax.Array) -> Any:
    """Adapters that change nothing yet: `a` normal with variance 1/inputs, `b` zero.

    Args:
        lora: which weights, and the rank.
        params: the model's parameters (arrays or ShapeDtypeStructs).
        axes: the tree of their logical axis names.
        rng: a key.

    Returns:
        A nested dict like `params`, with only the targets, and {"a", "b"} of float32 in the
        place of each.

    Raises:
        UserError: a pattern that matches no weight. Vectors and biases have no rank and are
            passed over.
    """
    found = _targets(lora, params, axes)
    keys = jax.random.split(rng, len(found))
    adapters: dict = {}
    for key, (path, leaf) in zip(keys, found.items(), strict=True):
        lead, count = _reads(_at(axes, path))
        layers, shape = leaf.shape[:lead], leaf.shape[lead:]
        reads, writes = shape[:count], shape[count:]
        a = jax.random.normal(key, (*layers, *reads, lora.rank)) / math.sqrt(math.prod(reads))
        _put(adapters, path, {"a": a, "b": jnp.zeros((*layers, lora.rank, *writes))})
    return adapters


def adapter_axes(adapters: Any, axes: Any) -> Any:
    """The logical axis names of adapters: those of the weight, and None for the rank."""
    if adapters.keys() == FACTORS:
        lead, _ = _reads(axes)
        a, b = factor_axes(axes[lead:])
        return {"a": axes[:lead] + a, "b": axes[:lead] + b}
    return {name: adapter_axes(part, axes[name]) for name, part in adapters.items()}


def with_adapters(params: Any, adapters: Any, scale: float) -> Any:
    """Parameters for `Model.apply`, in which each target is a `LowRank`; nothing is copied."""
    joined = dict(params)
    for name, part in adapters.items():
        if part.keys() == FACTORS:
            joined[name] = LowRank(params[name], part["a"], part["b"], scale)
        else:
            joined[name] = with_adapters(params[name], part, scale)
    return joined


def merge(params: Any, adapters: Any, scale: float) -> Any:
    """Plain parameters with the change added, for any use of the model without adapters.

    Targets keep the dtype of `params`: a bfloat16 base rounds the change.
    """

    def merged(leaf):
        if not isinstance(leaf, LowRank):
            return leaf
        one_layer = leaf.a.ndim + leaf.b.ndim == leaf.base.ndim + 2
        change = whole if one_layer else jax.vmap(whole)
        return change(leaf).astype(leaf.base.dtype)

    joined = with_adapters(params, adapters, scale)
    return jax.tree.map(merged, joined, is_leaf=lambda leaf: isinstance(leaf, LowRank))


def paths(adapters: Any, start: str = "") -> list[str]:
    """The paths of the weights that adapters change."""
    if adapters.keys() == FACTORS:
        return [start]
    inner = (paths(part, f"{start}/{name}" if start else name) for name, part in adapters.items())
    return [path for found in inner for path in found]


def _targets(lora: Lora, params: Any, axes: Any) -> dict[str, Any]:
    """Path -> leaf of the weights that a pattern matches."""
    leaves = {parameter_path(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    weights = {
        path: leaf
        for path, leaf in leaves.items()
        if not path.endswith("bias") and _reads(_at(axes, path))[1]
    }
    for pattern in lora.targets:
        if not any(re.search(pattern, path) for path in weights):
            raise UserError(f"lora.targets: {pattern!r} matches none of {', '.join(weights)}")
    return {
        path: leaf
        for path, leaf in weights.items()
        if any(re.search(pattern, path) for pattern in lora.targets)
    }


def _reads(names: tuple[str | None, ...]) -> tuple[int, int]:
    """How many axes are of layers, and how many after them a product reads."""
    lead = int(names[0] == "layers")
    return lead, input_axes(names[lead:])


def _at(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _put(tree: dict, path: str, value: Any) -> None:
    *folders, last = path.split("/")
    for name in folders:
        tree = tree.setdefault(name, {})
    tree[last] = value
