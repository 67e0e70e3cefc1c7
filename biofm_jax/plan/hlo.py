"""The text of a compiled XLA program as records: computations, instructions, shapes.

Only what counting needs is read. The text is that of `jax.stages.Compiled.as_text()`, after
partitioning: shapes are those of one device.
"""

import dataclasses
import math
import re
from functools import cached_property

# Bytes of an element; what is not here (tokens, opaque) has none.
WIDTHS = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e5m2", "f8e4m3fn", "f8e4m3"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
}
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,<=]*)\](\{[^{}]*\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape.

    Attributes:
        dtype: XLA's name of the element type.
        dims: sizes.
        on_chip: lies in a memory of the chip rather than in HBM (a TPU's `S(1)`).
    """

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Bytes of the elements, without padding."""
        return self.size * WIDTHS.get(self.dtype, 0)


def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape, in order; of a tuple all its elements."""
    found = []
    for dtype, dims, layout in _ARRAY.findall(shape):
        sizes = tuple(int(n.lstrip("<=")) for n in dims.split(",") if n)
        space = re.search(r"S\((\d+)\)", layout)
        found.append(Array(dtype, sizes, space is not None and space[1] != "0"))
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: without the `%`.
        shape: of the result, as written.
        opcode: `fusion`, `all-gather-start`, ...
        inside: what stands in the parentheses.
        attributes: what stands behind them.
    """

    name: str
    shape: str
    opcode: str
    inside: str
    attributes: str

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of the operands."""
        return tuple(_NAME.findall(self.inside))

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of the result."""
        return arrays(self.shape)

    def attribute(self, name: str) -> str:
        """The value of `name=`, up to the next comma outside brackets; empty where absent."""
        found = re.search(rf"(?:^|[ ,]){name}=", self.attributes)
        return _until(self.attributes[found.end() :], ",") if found else ""

    def called(self, name: str) -> tuple[str, ...]:
        """The computations that an attribute names."""
        return tuple(_NAME.findall(self.attribute(name)))


@dataclasses.dataclass(frozen=True)
class Computation:
    """A named list of instructions; the last one or the one marked ROOT is its result."""

    name: str
    instructions: dict[str, Instruction]
    root: Instruction

    def of(self, instruction: Instruction) -> tuple[Instruction, ...]:
        """The instructions that make an instruction's operands."""
        return tuple(self.instructions[n] for n in instruction.operands if n in self.instructions)

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that read each one's result."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for name in instruction.operands:
                found.setdefault(name, []).append(instruction)
        return found


@dataclasses.dataclass(frozen=True)
class Module:
    """A program."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Read a program.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations, entry = {}, ""
    lines = iter(text.splitlines())
    for line in lines:
        head = _HEAD.match(line)
        if not head:
            continue
        found, root = {}, None
        for inner in lines:
            if inner == "}" or inner.startswith("}, execution_thread"):  # of a SparseCore
                break
            if instruction := _instruction(inner):
                found[instruction.name] = instruction
                if root is None or inner.lstrip().startswith("ROOT "):
                    root = instruction
        if root is not None:
            computations[head[2]] = Computation(head[2], found, root)
            entry = head[2] if head[1] else entry
    if not entry:
        raise ValueError("the text holds no entry computation")
    return Module(computations, entry)


def _instruction(line: str) -> Instruction | None:
    name, equals, rest = line.strip().removeprefix("ROOT ").partition(" = ")
    if not equals:
        return None
    shape = _until(rest, " ")
    opcode, _, rest = rest[len(shape) + 1 :].partition("(")
    inside = _until(rest, ")")
    return Instruction(name.lstrip("%"), shape, opcode, inside, rest[len(inside) + 1 :])


def _until(text: str, end: str) -> str:
    """The beginning of a text up to a character that stands outside brackets and quotes."""
    depth, quoted = 0, False
    for i, letter in enumerate(text):
        if letter == '"' and text[i - 1 : i] != "\\":
            quoted = not quoted
        if quoted:
            continue
        if depth == 0 and letter == end:
            return text[:i]
        depth += (letter in "([{") - (letter in ")]}")
    return text
