"""Chips that a plan can be made for: their published peaks and the slices they come in.

Sources, read in October 2026: docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e. The pages
give the interconnect in both directions together; a collective sends half of that. For v4 the
page gives none, and the figure is that of Jouppi et al. 2023 (arXiv 2304.01433): six links of 50
GB/s. A peak is reached by nothing: a time computed from it is a lower bound.
"""

import dataclasses
import math

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do at best.

    Attributes:
        name: as in a topology, `v5e` of `v5e:4x4`.
        flops: bfloat16 FLOPs a second.
        memory: bytes of HBM.
        memory_rate: bytes a second between HBM and the chip.
        link_rate: bytes a second that a chip sends, over all its links at once.
        shapes: the slices that can be had, by number of chips.
        counted: units of a chip in an accelerator's name: `v5p-8` is four chips of two cores.
        config: how libtpu names a chip whose two cores work as one; empty where there is one.
    """

    name: str
    flops: float
    memory: int
    memory_rate: float
    link_rate: float
    shapes: tuple[tuple[int, ...], ...]
    counted: int = 1
    config: str = ""

    def by_chips(self) -> dict[int, tuple[int, ...]]:
        """The slices by their number of chips."""
        return {math.prod(shape): shape for shape in self.shapes}


FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
CUBE = (
    (2, 2, 1),
    (2, 2, 2),
    (2, 2, 4),
    (2, 4, 4),
    (4, 4, 4),
    (4, 4, 8),
    (4, 8, 8),
    (8, 8, 8),
    (8, 8, 16),
    (8, 16, 16),
)

CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIB, 1200e9, 300e9, CUBE, 2, "megacore"),
        Chip("v5e", 197e12, 16 * GIB, 819e9, 200e9, FLAT),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 600e9, CUBE, 2, "megacore"),
        Chip("v6e", 918e12, 32 * GIB, 1600e9, 400e9, FLAT),
    )
}

# Other names of a chip in accelerator types.
ALIASES = {"v5litepod": "v5e"}
