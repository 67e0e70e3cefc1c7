"""Goal 7: the compiled train step does not grow with the depth, and compiles fast.

Lines of the optimised program of ESM-2's training step (forward, backward, AdamW) at 6 and 48
layers, and the time to trace and compile 24 layers as a scan against 24 unrolled ones. Nothing
is run. The persistent compile cache is off.
"""

import dataclasses
import statistics
import time

import jax

from benchmarks.results import Row, judged, run_part
from biofm_jax.data.batch import batch_shapes
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.step import build_program
from biofm_jax.zoo.esm import ESM2

SIZES = ("8M", "35M")
SHALLOW, DEEP, TIMED = 6, 48, 24
SHAPES = batch_shapes(4, 256, 8)


def measure() -> list[Row]:
    """Count lines at two depths, time both ways to write the same depth."""
    rows = []
    for size in SIZES:
        lines = [
            len(compiled(dataclasses.replace(ESM2[size], layers=layers))[0].splitlines())
            for layers in (SHALLOW, DEEP)
        ]
        print(f"   {size}: {lines} lines at {SHALLOW} and {DEEP} layers", flush=True)
        figure = f"ESM-2 {size}, lines of optimised HLO added from {SHALLOW} to {DEEP} layers"
        row = judged("compile", 7, figure, abs(lines[1] - lines[0]), at_most=0, form="{:d}",
                     note=f"{lines[0]} and {lines[1]} lines", lines=lines)  # fmt: skip
        rows.append(row)
    spec = dataclasses.replace(ESM2["8M"], layers=TIMED)
    scan = statistics.median(compiled(spec)[1] for _ in range(3))
    print(f"   {TIMED} layers as a scan: {scan:.1f} s; unrolled takes longer", flush=True)
    unrolled = compiled(dataclasses.replace(spec, scan=False))[1]
    figure = f"ESM-2 width of 8M, {TIMED} layers: compile time, unrolled over scan"
    note = f"{unrolled:.1f} s against {scan:.1f} s, tracing included"
    rows.append(judged("compile", 7, figure, unrolled / scan, at_least=10.0, form="{:.1f}x",
                       note=note, scan=scan, unrolled=unrolled))  # fmt: skip
    return rows


def compiled(spec: TransformerSpec) -> tuple[str, float]:
    """The optimised program of the training step, and the seconds to trace and compile it."""
    jax.clear_caches()
    vocabulary, mesh = esm2_tokenizer().vocabulary, MeshSpec().build()
    with jax.set_mesh(mesh):
        program = build_program(
            spec.build(),
            MaskedLM().build(vocabulary),
            lambda axes: OptimizerSpec().build(1000, axes),
            mesh,
            SHAPES,
        )
        began = time.monotonic()
        made = program.step.lower(program.shapes, SHAPES).compile()
    return made.as_text(), time.monotonic() - began


if __name__ == "__main__":
    run_part(measure)
