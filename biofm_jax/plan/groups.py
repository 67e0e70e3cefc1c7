"""Which mesh axes a collective crosses, from the device groups in its text."""

import math
import re

import numpy as np

from biofm_jax.plan.hlo import Instruction
from biofm_jax.train.mesh import AXES


def crossed(instruction: Instruction, sizes: tuple[int, ...]) -> tuple[str, int]:
    """The mesh axes between the members of a collective's groups, and the size of a group.

    Args:
        instruction: a collective.
        sizes: of the mesh axes, in the order of `AXES`; devices are numbered row by row.

    Returns:
        Names joined by `+` (`fsdp`, `data+fsdp`), empty where nothing is sent; members of a group.
    """
    if pairs := instruction.attribute("source_target_pairs"):
        ids = np.array([int(n) for n in re.findall(r"\d+", pairs)]).reshape(-1, 2)
        moved = [names for pair in ids if (names := _varying(pair, sizes))]
        return (max(moved, key=len), 2) if moved else ("", 1)
    group = _first_group(instruction.attributes, math.prod(sizes))
    return _varying(group, sizes), len(group)


def _varying(ids: np.ndarray, sizes: tuple[int, ...]) -> str:
    """The axes along which some devices lie apart."""
    places = np.array(np.unravel_index(np.asarray(ids), sizes))
    return "+".join(name for name, row in zip(AXES, places, strict=True) if len(np.unique(row)) > 1)


def _first_group(attributes: str, devices: int) -> np.ndarray:
    """The first group of `replica_groups`, in any of the three ways to write them."""
    found = re.search(r"replica_groups=(.*)", attributes)
    text = found[1] if found else ""
    if text.startswith("mesh["):
        return _of_mesh(text)
    if iota := re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        shape, dims, order = (
            [int(n) for n in (part or "").split(",") if n] for part in iota.groups()
        )
        ids = np.arange(math.prod(dims)).reshape(dims)
        return (ids.transpose(order) if order else ids).reshape(shape)[0]
    if listed := re.match(r"\{\{([\d,]+)\}", text):
        return np.array(_numbers(listed[1]))
    return np.arange(devices)  # `{}`: all of them


def _of_mesh(text: str) -> np.ndarray:
    """A group written as `mesh['a'=4,'b'=2] {'a'}`, or `{'a':(1)2}` for a part of an axis.

    `device_ids=([2,4]T(1,0))` numbers the devices in another order than row by row.
    """
    named, _, grouped = text.partition("{")
    axes = re.findall(r"'([^']+)'=(\d+)", named)
    sizes = {name: int(size) for name, size in axes}
    ids = np.arange(math.prod(sizes.values()))
    if order := re.search(r"device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)", named):
        ids = ids.reshape(_numbers(order[1]))
        ids = ids.transpose(_numbers(order[2])) if order[2] else ids
    elif listed := re.search(r"device_ids=\(([\d,]+)\)", named):
        ids = np.array(_numbers(listed[1]))
    # Every axis in three: before the part, the part, behind it.
    parts = {name: (1, 1, size) for name, size in sizes.items()}
    for name, before, part in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", grouped.split("}")[0]):
        if name in parts:
            whole = sizes[name]
            first, middle = (int(before), int(part)) if part else (1, whole)
            parts[name] = (first, middle, whole // (first * middle))
    ids = ids.reshape([n for part in parts.values() for n in part])
    middles = list(range(1, ids.ndim, 3))
    return np.moveaxis(ids, middles, range(-len(middles), 0)).reshape(
        -1, math.prod(part[1] for part in parts.values())
    )[0]


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]
