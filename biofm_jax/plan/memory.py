"""Memory of a chip: what a compiled step takes."""

import dataclasses
import math
import re

import jax

from biofm_jax.train.placement import batch_shardings
from biofm_jax.train.step import Program

# A plan fits where this share of the HBM holds it: the runtime and the fragments take the rest.
USABLE = 0.9


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one chip while a step runs.

    Attributes:
        arguments: the state (parameters, optimizer, objective) and the batch.
        outputs: results that are not written over their arguments.
        aliased: of the arguments, donated and written over.
        temporaries: everything else the step keeps at its peak, padding included.
        code: the program.
        capacity: HBM of the chip; 0 where there is none to fit into.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    capacity: int

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.arguments + self.outputs + self.temporaries + self.code

    @property
    def usable(self) -> int:
        """Bytes that a plan may take."""
        return int(USABLE * self.capacity)

    @property
    def headroom(self) -> int:
        """Usable bytes that are left; below 0, what is missing."""
        return self.usable - self.total

    @property
    def fits(self) -> bool:
        """Whether the step runs on this chip."""
        return not self.capacity or self.headroom >= 0


def memory_of(compiled, capacity: int) -> Memory:
    """The memory of a compiled step, by the compiler's own account."""
    found = compiled.memory_analysis()
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
        found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
        capacity,
    )


def refused_memory(message: str, arguments: int, capacity: int) -> Memory | None:
    """What a step would have taken that the compiler refused; None for another message.

    Args:
        message: of the compiler's error.
        arguments: bytes of the state and the batch on one chip.
        capacity: HBM of the chip.
    """
    unit = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "": 1}
    found = re.search(r"temporaries \(([\d.]+)([KMGT]?)\) exceeds", message)
    whole = re.search(r"Used ([\d.]+)([KMGT]?)i?B? of", message)
    if not (found or whole):
        return None
    number, letter = (found or whole).groups()
    used = int(float(number) * unit[letter])
    temporaries = used if found else max(0, used - arguments)
    return Memory(arguments, 0, arguments, temporaries, 0, capacity)


def argument_bytes(program: Program, mesh, batch) -> int:
    """Bytes of the state and the batch on one device, without padding."""
    place = batch_shardings(mesh, batch)
    pairs = zip(
        jax.tree.leaves((program.shapes, batch)),
        jax.tree.leaves((program.shardings, place)),
        strict=True,
    )
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in pairs
    )
