"""What a model is, what it returns, and the seam by which a mesh shards it.

A model is three pure functions and the spec they were made from. No model knows a mesh: at its
block boundaries it calls `constrain`, before it uses parameters it calls `gather`, and around a
kernel that the compiler cannot partition it calls `per_shard`. Without a partitioner these do
nothing (but for the cast of `gather`); `train/mesh.py` sets one while the step is traced.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Float

from biofm_jax.array_types import AnyArray, ArrayLike, Hidden, Pooled, PyTree
from biofm_jax.models.low_rank import factor_axes, is_low_rank, whole

Names = tuple[str | None, ...]

# The axis name of a parameter that is read and never trained; its first axis within a layer.
BUFFER = "buffer"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """What `Model.apply` returns. A field that was not made is None.

    Attributes:
        hidden: (b, t, d) last hidden states, in the compute dtype. Padding is finite, unused.
        pooled: (b, s, d) float32, one vector per packed example, zero for an empty slot.
        logits: float32. With a language head (b, t, v), or (b, k, v) where the batch names
            the positions in `predict`; with a projection or prediction head (b, s, outputs).
        attentions: (l, b, h, t, t) float32 attention weights, with `collect=("attentions",)`.
        layers: (l + 1, b, t, d) the embeddings and then each block's output, before the final
            norm, with `collect=("layers",)`.
        keys_values: two of (l, b, t, kv, d), keys (rotated where positions are rotary) and values
            of every block in the compute dtype, with `collect=("keys_values",)`.
        source: what the encoder before a decoder returned.
        pair: what the second of two towers returned for the second view.
        scale: () float32 logarithm of the factor of similarities between two towers.
        bias: () float32, learned, added to these similarities.
        source_keys_values: the same as `keys_values`, of the cross attention to the encoder.
        coordinates: float32 in angstrom, those of the batch as a model of pairs moves them.
        distances: float32, of pairs of atoms of one molecule, as it predicts them, normalised.
        pool_weights: (b, s, t) float32 that sum to 1 over an example's tokens, of a model that
            pools by attention.
        pooled_logits: (b, s, m) float32, of a head that has some of tokens and some of `pooled`.
        caption: (b, t, v) float32 logits of the next token of the second view, by a decoder that
            reads both.
    """

    hidden: Hidden | None = None
    pooled: Pooled | None = None
    logits: AnyArray | None = None
    attentions: Float[ArrayLike, "l b h t t"] | None = None
    layers: Float[ArrayLike, "n b t d"] | None = None
    keys_values: tuple[AnyArray, AnyArray] | None = None
    source: "Outputs | None" = None
    pair: "Outputs | None" = None
    scale: jax.Array | None = None
    bias: jax.Array | None = None
    source_keys_values: tuple[AnyArray, AnyArray] | None = None
    coordinates: Float[ArrayLike, "b t 3"] | None = None
    distances: Float[ArrayLike, "b t u"] | None = None
    pooled_logits: AnyArray | None = None
    caption: AnyArray | None = None
    pool_weights: Float[ArrayLike, "b s t"] | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """Pure functions made from a spec.

    Attributes:
        init: `init(rng, batch) -> params`, a nested dict of float32 arrays.
        apply: `apply(params, batch, *, rngs=None, train=False, collect=(), embedded=None,
            past=None) -> Outputs`, where `rngs` is one PRNG key, `collect` names what else to
            return, `embedded` (b, t, d) stands in for the embeddings of the tokens, and `past` is
            the `Cache` of the tokens before these.
        axes: `axes(params) -> tree` of tuples of logical axis names, one name per dimension:
            "layers", "embed", "heads", "mlp", "vocab", "buffer" (of what is never trained) or None.
        spec: the frozen dataclass the model was built from.
    """

    init: Callable[..., PyTree]
    apply: Callable[..., Outputs]
    axes: Callable[[PyTree], PyTree]
    spec: Any


class Partitioner(Protocol):
    """How activations and parameters lie on a mesh; `train/mesh.py` has the implementation.

    Attributes:
        devices: number of devices of the mesh.
        platform: of the devices, "cpu", "gpu" or "tpu".
    """

    devices: int
    platform: str

    def constrain(self, x: jax.Array, names: Names) -> jax.Array:
        """Lay `x` out by the names of its axes.

        The names are "batch", "tokens", "width", "heads", "mlp", "vocab" or None.
        """

    def gather(self, param: jax.Array, names: Names, dtype: Any) -> jax.Array:
        """Cast a parameter of one layer to `dtype` and gather the shards of its "embed" axis.

        The gradient is laid out as the parameter is stored.
        """

    def per_shard(self, function: Callable, inputs: tuple[Names, ...], output: Names) -> Callable:
        """`function`, run on each device's shard of its arguments.

        The result has the shape of the first argument.
        """

    def parts(self, name: str, size: int) -> int:
        """Into how many parts an axis of that name and size is cut."""

    def gather_tokens(self, x: jax.Array, axis: int) -> jax.Array:
        """Within `per_shard`: the whole rows, of which each device holds a run of tokens."""


_partitioner: contextvars.ContextVar[Partitioner | None] = contextvars.ContextVar(
    "partitioner", default=None
)


@contextlib.contextmanager
def partitioned(partitioner: Partitioner | None) -> Iterator[None]:
    """Trace models under `partitioner` within the block.

    It acts while a function is traced, so it stands inside the function given to `jax.jit`: a
    trace made under one partitioner is not made again for another.
    """
    token = _partitioner.set(partitioner)
    try:
        yield
    finally:
        _partitioner.reset(token)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """`x`, laid out on the mesh by the names of its axes; unchanged without a partitioner."""
    partitioner = _partitioner.get()
    return x if partitioner is None else partitioner.constrain(x, names)


def gather(params: PyTree, axes: PyTree, dtype: Any) -> PyTree:
    """Parameters in the compute dtype, whole along "embed", as a layer needs them.

    Args:
        params: a tree of stored float32 arrays (of one layer, inside the scan).
        axes: the same tree of tuples of logical axis names.
        dtype: the compute dtype.
    """

    return _by_name(lambda leaf, names: _gather(leaf, names, dtype), params, axes)


def _gather(leaf: Any, names: Names, dtype: Any) -> jax.Array:
    partitioner = _partitioner.get()
    if partitioner is None or partitioner.devices == 1:
        return jnp.asarray(leaf, dtype)
    return partitioner.gather(leaf, names, dtype)


def _by_name(function: Callable, params: PyTree, axes: PyTree) -> PyTree:
    """`function(array, names)` of every array, the factors of a `LowRank` too."""

    def one(leaf, names):
        if not is_low_rank(leaf):
            return function(leaf, names)
        a, b = factor_axes(names)
        return dataclasses.replace(
            leaf, base=function(leaf.base, names), a=function(leaf.a, a), b=function(leaf.b, b)
        )

    return jax.tree.map(one, params, axes, is_leaf=is_low_rank)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Late:
    """A parameter that is gathered where it is used, and again in the backward pass.

    What a scan keeps for the backward pass is stacked by layer: gathered, cast or reshaped
    weights among it would be a second, unsharded copy of the model.

    Attributes:
        stored: the array.
        names: of its axes.
        dtype: the compute dtype.
    """

    stored: Any
    names: Names = dataclasses.field(metadata={"static": True})
    dtype: Any = dataclasses.field(metadata={"static": True})


def gather_late(params: PyTree, axes: PyTree, dtype: Any) -> PyTree:
    """The parameters as `Late` ones; arguments as of `gather`."""
    return _by_name(lambda leaf, names: Late(leaf, names, dtype), params, axes)


def used(leaf: Any) -> Any:
    """A parameter as an array: a `Late` one gathered, a `LowRank` one with its change added."""
    if is_low_rank(leaf):
        parts = {name: used(getattr(leaf, name)) for name in ("base", "a", "b")}
        return whole(dataclasses.replace(leaf, **parts))
    return _gather(leaf.stored, leaf.names, leaf.dtype) if isinstance(leaf, Late) else leaf


def parts(name: str, size: int) -> int:
    """Into how many parts the mesh cuts an activation's axis; 1 without a partitioner.

    Args:
        name: of the axis, as of `constrain`.
        size: of the axis. One that the mesh does not divide stays whole.
    """
    partitioner = _partitioner.get()
    return 1 if partitioner is None else partitioner.parts(name, size)


def gather_tokens(x: jax.Array, axis: int = 1) -> jax.Array:
    """The whole rows, in a function that runs under `per_shard` on runs of their tokens.

    It is how what mixes tokens crosses the cuts of the mesh axis `context`: attention gathers its
    keys and values. The gradient is a reduce-scatter.

    Args:
        x: this device's run of tokens.
        axis: that of the tokens.
    """
    return _partitioner.get().gather_tokens(x, axis)


def per_shard(function: Callable, inputs: tuple[Names, ...], output: Names) -> Callable:
    """`function` run on each device's shard; itself without a partitioner.

    Args:
        function: takes arrays, returns one array of the shape of the first.
        inputs: the names of the axes of each argument.
        output: the names of the axes of the result.
    """
    partitioner = _partitioner.get()
    return function if partitioner is None else partitioner.per_shard(function, inputs, output)


def platform() -> str:
    """What a program traced here will run on: "cpu", "gpu" or "tpu".

    The mesh decides where there is one: `biofm plan` compiles for devices that are not here.
    """
    partitioner = _partitioner.get()
    return jax.default_backend() if partitioner is None else partitioner.platform


def unsharded() -> bool:
    """Whether every array lies whole on one device, so that axes may be merged freely."""
    partitioner = _partitioner.get()
    return partitioner is None or partitioner.devices == 1
