"""Which computations of a compiled program run, and how often."""

import dataclasses
import re
from collections.abc import Iterator

from biofm_jax.plan.hlo import Computation, Instruction, Module


@dataclasses.dataclass(frozen=True)
class Run:
    """One computation as it is run.

    Attributes:
        computation: what runs.
        times: how often a step runs it.
        region: names the loop body (or the entry) it belongs to, and how that was reached.
        fused: inside a fusion, so that its arrays never leave the chip.
    """

    computation: Computation
    times: int
    region: str
    fused: bool


def runs(module: Module) -> Iterator[Run]:
    """Every computation that a step runs, once for each place it is run from.

    Of a branch both sides are taken; what sorts, reduces or scatters element by element is left
    out.
    """
    yield from _runs(module, Run(module.computations[module.entry], 1, module.entry, False))


def _runs(module: Module, run: Run) -> Iterator[Run]:
    yield run
    for one in run.computation.instructions.values():
        times, fused = run.times, run.fused
        if one.opcode == "while":
            names = (*one.called("condition"), *one.called("body"))
            times *= trip_count(module, run.computation, one)
        elif one.opcode == "fusion":
            names, fused = one.called("calls"), True
        elif one.opcode in ("call", "call-start", "async-start"):
            names = one.called("calls") + one.called("to_apply")
        elif one.opcode == "conditional":
            names = one.called("branch_computations")
            names += one.called("true_computation") + one.called("false_computation")
        else:
            continue
        for name in names:
            region = run.region if fused else f"{run.region}/{one.name}"
            yield from _runs(module, Run(module.computations[name], times, region, fused))


def trip_count(module: Module, around: Computation, loop: Instruction) -> int:
    """How often a while loop's body runs; 1 where the text does not tell.

    Args:
        module: the program.
        around: the computation that holds the loop.
        loop: the `while` instruction.
    """
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(known[1])
    condition = module.computations[loop.called("condition")[0]]
    body = module.computations[loop.called("body")[0]]
    test = condition.root
    if test.opcode == "fusion":  # the compiler fuses even a comparison
        outer, test = test, module.computations[test.called("calls")[0]].root
        sides = [_through(outer, test.operands, condition, module)]
    sides = condition.of(test) if test is condition.root else sides[0]
    start = around.of(loop)[0] if around.of(loop) else None
    index = next((i for side in sides if (i := _element(side)) is not None), None)
    limit = next((n for side in sides if (n := _constant(side)) is not None), None)
    if index is None or limit is None:
        return 1
    first = _constant(around.of(start)[index]) if start and start.opcode == "tuple" else 0
    step = _step(body, index)
    last = limit + 1 if "direction=LE" in test.attributes else limit
    return max(0, -(-(last - (first or 0)) // step))


def _through(outer: Instruction, names, condition: Computation, module: Module) -> tuple:
    """The operands of a fused comparison, parameters replaced by what the fusion is given."""
    inner = module.computations[outer.called("calls")[0]]
    given = condition.of(outer)
    found = (inner.instructions[name] for name in names)
    return tuple(given[int(x.inside)] if x.opcode == "parameter" else x for x in found)


def _element(one: Instruction) -> int | None:
    """Which element of the loop's tuple this is."""
    return int(one.attribute("index")) if one.opcode == "get-tuple-element" else None


def _constant(one: Instruction) -> int | None:
    found = one.opcode == "constant" and re.fullmatch(r"-?\d+", one.inside.strip())
    return int(found[0]) if found else None


def _step(body: Computation, index: int) -> int:
    """By how much the counter grows each time: loops may be unrolled."""
    total, one = 0, body.of(body.root)[index] if body.root.opcode == "tuple" else None
    while one is not None and one.opcode in ("add", "copy"):
        parts = body.of(one)
        total += sum(n for part in parts if (n := _constant(part)) is not None)
        one = next((part for part in parts if _constant(part) is None), None)
    return total if total > 0 and one is not None and _element(one) == index else 1
