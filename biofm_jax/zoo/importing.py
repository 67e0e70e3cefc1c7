"""Published tensors to parameters, strictly and one tensor at a time."""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.array_types import PyTree
from biofm_jax.errors import UserError
from biofm_jax.models.spec import ModelSpec
from biofm_jax.zoo.family import Family, canonical_names
from biofm_jax.zoo.tensors import Place, by_path, places
from biofm_jax.zoo.weights import InMemory, Weights

SHOWN = 20  # lines of a list of what is wrong
# Integers are weights that were quantised, whose scales lie in other tensors.
FLOATS = ("float64", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which tensor of a checkpoint goes where; made from headers alone.

    Attributes:
        spec: of the model; without a head where the checkpoint has none.
        family: of the model.
        shapes: tree of the parameters' shapes.
        places: of the tensors, by their names in the family's table.
        names: name in the table -> name in the checkpoint.
        copies: pairs (copy, original) of names in the table that must be equal.
        left_out: names in the checkpoint of tensors that are no weights of the model.
        ignored: number of tensors of parts that the family does not have.
    """

    spec: ModelSpec
    family: Family
    shapes: PyTree
    places: list[Place]
    names: dict[str, str]
    copies: list[tuple[str, str]]
    left_out: list[str]
    ignored: int = 0

    def kept(self) -> dict[str, str]:
        """Of each tensor that an export gives back: name in the table -> name in the checkpoint.

        Those left out come by their names in the checkpoint.
        """
        mine = [place.name for place in self.places] + [copy for copy, _ in self.copies]
        return {name: self.names[name] for name in mine} | {n: n for n in self.left_out}


def plan_import(weights: Weights, family: Family, spec: ModelSpec) -> Plan:
    """Lay out an import, or say all that stands in its way.

    Args:
        weights: the checkpoint.
        family: its family.
        spec: its architecture.

    Raises:
        UserError: tensors that are missing, unused, or of another shape or a type that is no
            float; they are listed. Or two names of one tensor.
    """
    names = canonical_names(list(weights.tensors), family)
    spec = family.settle(
        spec,
        lambda pattern: [weights.read(n) for n in weights.tensors if re.search(pattern, n)],
    )
    of_head = {t.name for t in family.tensors(spec) if t.name.startswith(family.head)}
    if of_head and not of_head & names.keys():
        spec = spec.replaced(head=None)
    shapes = model_shapes(spec)
    found = model_places(family, spec)
    wanted = {place.name for place in found}
    copies = [(copy, original) for copy, original in family.copies.items()
              if copy in names and copy not in wanted]  # fmt: skip
    wrong = []
    for place in found:
        if place.name not in names:
            wrong.append(f"missing: {place.name} {place.published_shape}")
            continue
        name = names[place.name]
        header = weights.tensors[name]
        if header.shape != place.published_shape:
            wrong.append(f"{name} has shape {header.shape}, not {place.published_shape}")
        elif header.dtype not in FLOATS:
            wrong.append(f"{name} is of type {header.dtype}; known are {', '.join(FLOATS)}")
    known = wanted | {copy for copy, _ in copies}
    left_out = sorted(
        original
        for name, original in names.items()
        if name not in known and family.leaves_out(name)
    )
    aside = {n for name, n in names.items() if name not in known and family.ignores(name)}
    left_out = [name for name in left_out if name not in aside]
    known |= {name for name, n in names.items() if n in aside}
    unused = [n for name, n in names.items() if name not in known and n not in left_out]
    wrong += [f"unused: {name} {weights.tensors[name].shape}" for name in sorted(unused)]
    if wrong:
        more = f"\n  and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(
            f"these tensors do not fit {family.name} with {spec.layers} layers of width "
            f"{spec.width}; check that the model and its size are the ones that were saved:\n  "
            + "\n  ".join(wrong[:SHOWN])
            + more
        )
    return Plan(spec, family, shapes, found, names, copies, left_out, len(aside))


def model_shapes(spec: ModelSpec) -> PyTree:
    """The shapes of a model's parameters; nothing is allocated."""
    return jax.tree.map(lambda shape: shape, _traced_shapes(spec))


@functools.lru_cache(maxsize=8)
def _traced_shapes(spec: ModelSpec) -> PyTree:
    return jax.eval_shape(lambda key: spec.build().init(key, None), jax.random.key(0))


def model_places(family: Family, spec: ModelSpec) -> list[Place]:
    """Where each tensor of the family's table lies in a model's parameters."""
    return places(family.tensors(spec), by_path(model_shapes(spec)))


def read_params(
    weights: Weights,
    plan: Plan,
    shardings: PyTree | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> PyTree:
    """The parameters of a checkpoint, float32.

    Beside the parameters, memory holds one tensor at a time.

    Args:
        weights: the checkpoint.
        plan: from `plan_import`.
        shardings: tree of shardings, on whose devices the parameters are put piece by piece;
            None: NumPy arrays.
        advance: takes the number of tensors read since its last call.

    Raises:
        UserError: two tensors that should be one have other values, or a tensor holds NaN,
            infinity, or numbers that overflow float32.
    """
    for copy, original in plan.copies:
        if original not in plan.names:
            continue
        pair = [weights.read(plan.names[name]) for name in (copy, original)]
        if not np.array_equal(*(_bits(array) for array in pair)):
            of_head = copy.startswith(plan.family.head)
            raise UserError(
                f"{copy} differs from {original}, to which it is tied in {plan.family.name}: "
                + ('give the config.json that says "tie_word_embeddings": false' if of_head else
                   "there is one table for both, so the checkpoint is damaged or of another model")
            )  # fmt: skip
    target = None if shardings is None else by_path(shardings)
    leaves = {
        path: _empty(path, shape, None if target is None else target[path])
        for path, shape in by_path(plan.shapes).items()
    }
    for place in plan.places:
        array = _finite(weights.read(plan.names[place.name]), plan.names[place.name])
        piece = place.layout.to_ours(array, place.shape)
        if target is None:
            leaves[place.path][place.slices] = piece
        else:
            leaves[place.path] = _put(leaves[place.path], piece, place.index)
        advance(1)
    return jax.tree.unflatten(jax.tree.structure(plan.shapes), list(leaves.values()))


def params_of(arrays: dict[str, np.ndarray], family: Family, spec: ModelSpec) -> PyTree:
    """The parameters held in a state dict of arrays; raises as `plan_import`."""
    weights = InMemory(arrays)
    return read_params(weights, plan_import(weights, family, spec))


def _finite(array: np.ndarray, name: str) -> np.ndarray:
    """An array of numbers that float32 has; float64 is rounded to it."""
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(
            f"{name} holds numbers that are not finite in float32: the checkpoint is damaged, or "
            "its training diverged"
        )
    return array


def _bits(array: np.ndarray) -> np.ndarray:
    """An array as its bytes: equal also where it holds NaN."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _empty(path: str, shape: Any, sharding: Any) -> Any:
    """Zeros; ones for a norm that the checkpoint does not use in all layers."""
    fill = float(path.endswith("norm/scale"))
    if sharding is None:
        return np.full(shape.shape, fill, np.float32)
    return jnp.full(shape.shape, fill, jnp.float32, device=sharding)


def _put(whole: jax.Array, piece: np.ndarray, index: tuple[int | None, ...]) -> jax.Array:
    """`whole` with a piece written into it, in place, each device its own shard of it."""
    fixed = [i is not None for i in index] + [False] * (whole.ndim - len(index))
    shape = iter(piece.shape)
    block = piece.reshape([1 if is_fixed else next(shape) for is_fixed in fixed])
    # The piece is cut like the whole, so that no device ever holds all of it.
    sharding = whole.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        axes = tuple(sharding.spec) + (None,) * (whole.ndim - len(sharding.spec))
        spec = [None if is_fixed else axis for is_fixed, axis in zip(fixed, axes)]
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec(*spec))
    start = [0 if i is None else i for i in index] + [0] * (whole.ndim - len(index))
    return _written(whole.sharding)(whole, jax.device_put(block, sharding), start)


@functools.cache
def _written(sharding: Any) -> Callable:
    @functools.partial(jax.jit, donate_argnums=0, out_shardings=sharding)
    def write(whole, piece, start):
        return jax.lax.dynamic_update_slice(whole, piece.astype(whole.dtype), start)

    return write
