"""FLOPs of the matrix products in a compiled program's text."""

import math
import re

from biofm_jax.plan.hlo import Computation, Instruction

# Products of two t x t x d in each of splash attention's kernels: q k^T and the weights times v;
# q k^T, the weights' gradient and q's; the same for k and v (Dao et al. 2022, algorithm 4).
SPLASH = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}


def product_flops(
    instruction: Instruction, computation: Computation, blocks: float
) -> float | None:
    """FLOPs of one run of a dot, convolution or kernel of ours; 0 for anything else.

    Args:
        instruction: of `computation`.
        computation: where the shapes of its operands stand.
        blocks: share of a row's pairs that an attention kernel computes (1/2 and a little where
            a causal mask lets it leave blocks out).

    Returns:
        None for a custom kernel that is not known.
    """
    if instruction.opcode == "dot":
        return _dot(instruction, computation)
    if instruction.opcode == "convolution":
        return _convolution(instruction, computation)
    if "tpu_custom_call" in instruction.attribute("custom_call_target"):
        found = [n for name, n in SPLASH.items() if instruction.name.startswith(name)]
        if not found:
            return None
        given = (array for one in computation.of(instruction) for array in one.arrays)
        # The queries, behind integers that say which blocks to visit: (..., t, d).
        queries = next(a for a in given if len(a.dims) > 2 and a.dtype in ("bf16", "f32"))
        return 2.0 * found[0] * queries.size * queries.dims[-2] * blocks
    return 0.0


def _dot(instruction: Instruction, computation: Computation) -> float:
    left = computation.of(instruction)[0].arrays[0].dims
    summed = re.findall(r"\d+", instruction.attribute("lhs_contracting_dims"))
    return 2.0 * instruction.arrays[0].size * math.prod(left[int(i)] for i in summed)


def _convolution(instruction: Instruction, computation: Computation) -> float:
    """A TPU's compiler writes every product as a convolution, batches as padded windows.

    Counted are the pairs of an input and a kernel element that meet, not those with padding.
    """
    left, right = (one.arrays[0].dims for one in computation.of(instruction)[:2])
    out = instruction.arrays[0].dims
    names = re.match(r"(\w+)_(\w+)->(\w+)", instruction.attribute("dim_labels"))
    lhs, rhs, result = names.groups()
    window = instruction.attribute("window")

    def field(name: str, default: int) -> list[tuple[int, ...]]:
        found = re.search(rf"\b{name}=([\d_x\-]+)", window)
        rank = sum(letter.isdigit() for letter in rhs)
        if not found:
            return [(default,) * 2] * rank
        return [tuple(int(n) for n in part.split("_")) for part in found[1].split("x")]

    stride, low, base, spread = (
        [part[0] for part in field(name, default)]
        for name, default in (("stride", 1), ("pad", 0), ("lhs_dilate", 1), ("rhs_dilate", 1))
    )
    met = 1
    for axis, label in enumerate(sorted(c for c in rhs if c.isdigit())):
        size_in, size_k = left[lhs.index(label)], right[rhs.index(label)]
        reach = (size_in - 1) * base[axis] + 1
        places = (
            o * stride[axis] + k * spread[axis] - low[axis]
            for o in range(out[result.index(label)])
            for k in range(size_k)
        )
        met *= sum(0 <= place < reach and place % base[axis] == 0 for place in places)
    batch = left[lhs.index("b")] // _count(instruction, "batch_group_count")
    channels = right[rhs.index("i")] * right[rhs.index("o")]
    return 2.0 * batch * channels * met


def _count(instruction: Instruction, name: str) -> int:
    return int(instruction.attribute(name) or 1)
