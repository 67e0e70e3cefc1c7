"""What one step of a compiled program does on one device: FLOPs, bytes of HBM, bytes sent."""

import collections
import dataclasses

from biofm_jax.plan.groups import crossed
from biofm_jax.plan.hlo import Array, Computation, Instruction, Module
from biofm_jax.plan.loops import runs
from biofm_jax.plan.products import product_flops

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# These move nothing, or what they move is counted where it happens.
STILL = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "iota"),
    *("conditional", "after-all", "partition-id", "replica-id", "opt-barrier", "add-dependency"),
    *("copy-done", "async-start", "async-update", "async-done", "slice-start", "call-start"),
    "call-done",
    *(f"{kind}-done" for kind in KINDS),
}


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collectives of one kind over the same mesh axes.

    Attributes:
        kind: `all-gather`, ...; `reduce-scatter` also where a TPU fuses it from an all-reduce.
        axes: mesh axes joined by `+`.
        count: how many a step runs.
        bytes: what a device sends in them, by the ring algorithm: of n members an all-gather and
            a reduce-scatter send (n - 1) / n of the whole array, an all-reduce twice that.
    """

    kind: str
    axes: str
    count: int
    bytes: float


@dataclasses.dataclass(frozen=True)
class Counts:
    """One step on one device.

    Attributes:
        flops: of matrix products, loops run to their end.
        memory_bytes: read from and written to HBM: arrays between operations, of slices the
            slice. On a CPU, where nothing is marked as lying on the chip, an upper bound.
        collectives: largest first.
        unknown: names of custom kernels whose FLOPs are not counted.
    """

    flops: float
    memory_bytes: float
    collectives: tuple[Collective, ...]
    unknown: tuple[str, ...]

    def sent(self) -> dict[str, float]:
        """Bytes a device sends, by mesh axes."""
        found: dict[str, float] = collections.defaultdict(float)
        for one in self.collectives:
            found[one.axes] += one.bytes
        return dict(found)


def count(module: Module, sizes: tuple[int, ...], blocks: float = 1.0) -> Counts:
    """Count a compiled program.

    Args:
        module: the program of one device.
        sizes: of the mesh axes, in the order of `train.mesh.AXES`.
        blocks: share of a row's pairs that an attention kernel computes.
    """
    flops = memory = 0.0
    sent: dict[tuple[str, str], list] = collections.defaultdict(lambda: [0, 0.0])
    seen, unknown = set(), set()
    for run in runs(module):
        for one in run.computation.instructions.values():
            found = product_flops(one, run.computation, blocks)
            if found is None:
                unknown.add(one.name)
            flops += run.times * (found or 0.0)
            if not run.fused:
                memory += run.times * _moved(one, run.computation, module)
            kind = one.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            # One that overlaps with computation stands in each of the fusions it spans; outside of
            # fusions a channel may serve many (those of `shard_map` all have number 1).
            key = (run.region, one.attribute("channel_id") if run.fused else one.name)
            if key in seen:
                continue
            seen.add(key)
            axes, members = crossed(one, sizes)
            if kind == "all-reduce" and run.computation.name.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"
            if axes:
                total = sent[kind, axes]
                total[0] += run.times
                total[1] += run.times * _wire(kind, one, run.computation, members)
    collectives = [Collective(*key, *value) for key, value in sent.items()]
    collectives.sort(key=lambda one: -one.bytes)
    return Counts(flops, memory, tuple(collectives), tuple(sorted(unknown)))


def _wire(kind: str, one: Instruction, computation: Computation, members: int) -> float:
    own = sum(array.bytes for part in computation.of(one) for array in part.arrays)
    match kind:
        case "all-gather":
            return own * (members - 1.0)
        case "all-reduce":
            return own * 2.0 * (members - 1) / members
        case "collective-permute" | "collective-broadcast":
            return float(own)
    return own * (members - 1.0) / members


def _moved(one: Instruction, computation: Computation, module: Module) -> int:
    """Bytes that an operation outside a fusion reads from and writes to HBM."""
    if one.opcode in STILL:
        return 0
    if one.opcode == "copy-start":
        return sum(_bytes(array) for array in one.arrays[:2])
    if one.opcode == "slice-done":  # from HBM, as a rule onto the chip
        return sum(array.bytes for array in one.arrays) + _total(one.arrays)
    if "AllocateBuffer" in one.attribute("custom_call_target"):
        return 0
    given = computation.of(one)
    if one.opcode == "dynamic-slice":
        return 2 * _total(one.arrays)
    if one.opcode == "dynamic-update-slice":
        return 2 * _total(given[1].arrays)
    called = one.called("calls") if one.opcode == "fusion" else ()
    if not called:
        return _total(one.arrays) + sum(_total(part.arrays) for part in given)
    inner = module.computations[called[0]]
    read = sum(
        min(_total(part.arrays), _read(module, inner, i))
        for i, part in enumerate(given)
        if _total(part.arrays)
    )
    return read + min(_total(one.arrays), _written(module, inner, one))


def _read(module: Module, inner: Computation, number: int) -> int:
    """Bytes of a fusion's parameter that are read: of a sliced one the slices."""
    found = (x for x in inner.instructions.values() if x.opcode == "parameter")
    parameter = next((x for x in found if x.inside == str(number)), None)
    return 0 if parameter is None else _used(module, inner, parameter)


def _used(module: Module, inner: Computation, value: Instruction) -> int:
    read = 0
    for user in inner.users[value.name]:
        first = user.operands[0] == value.name
        if user.opcode == "bitcast":
            read += _used(module, inner, user)
        elif user.opcode == "fusion":
            nested = module.computations[user.called("calls")[0]]
            places = [i for i, name in enumerate(user.operands) if name == value.name]
            read += sum(_read(module, nested, i) for i in places)
        elif user.opcode in ("dynamic-slice", "gather") and first:
            read += sum(array.bytes for array in user.arrays)
        elif user.opcode != "tuple" and not (user.opcode == "dynamic-update-slice" and first):
            return sum(array.bytes for array in value.arrays)
    return read


def _written(module: Module, inner: Computation, fusion: Instruction) -> int:
    """Bytes of a fusion's results that are written: of an updated array the update."""
    results = inner.of(inner.root) if inner.root.opcode == "tuple" else (inner.root,)
    if len(results) != len(fusion.arrays):
        return _total(fusion.arrays)
    return sum(
        _made(module, inner, result, array)
        for result, array in zip(results, fusion.arrays, strict=True)
    )


def _made(module: Module, inner: Computation, result: Instruction, array: Array) -> int:
    """Bytes of one result: none of what is only passed through."""
    while result.opcode in ("bitcast", "fusion", "get-tuple-element"):
        if result.opcode == "bitcast":
            result = inner.of(result)[0]
            continue
        index = 0
        if result.opcode == "get-tuple-element":
            index, result = int(result.attribute("index")), inner.of(result)[0]
            if result.opcode != "fusion":
                break
        inner = module.computations[result.called("calls")[0]]
        result = inner.of(inner.root)[index] if inner.root.opcode == "tuple" else inner.root
    if result.opcode == "parameter":
        return 0
    if result.opcode == "dynamic-update-slice":
        return sum(part.bytes for part in inner.of(result)[1].arrays)
    return _bytes(array)


def _bytes(array: Array) -> int:
    return 0 if array.on_chip else array.bytes


def _total(parts: tuple[Array, ...]) -> int:
    return sum(_bytes(array) for array in parts)
