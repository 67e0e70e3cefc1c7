"""Goal 3: what packing gains, and that it changes nothing.

The packer is fed random proteins with the lengths of real ones (`inputs.protein_lengths`). The
throughput is that of the ESM-2 8M training step, masking included, in unpadded tokens a second:
packed rows against one protein a row. Ideal is the ratio that packing without a gap and without
a cost would reach, so that both the packer's fill and the dearer step count against it.
"""

import os
import statistics
import time

from benchmarks import inputs

os.environ.update(inputs.one_core())

import jax
import numpy as np

from benchmarks.results import Row, judged, run_part
from biofm_jax.data.in_memory import example_batches, pack_examples
from biofm_jax.data.packing import OPEN_ROWS, OpenRows
from biofm_jax.data.pipeline import BLOCK
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import build_program
from biofm_jax.zoo.esm import ESM2

SEQUENCES = 200_000
ROW, SEGMENTS = 1024, 16  # of experiments/computational_biology/esm2_masked.py
ROUNDS, STEP_ROWS = 7, 2
EQUAL = 1e-5


def measure() -> list[Row]:
    """Fill and speed of the packer, throughput of the step, equality of the outputs."""
    lengths = inputs.protein_lengths(np.random.default_rng(0), SEQUENCES, ROW)
    fill, rate = pack_all(lengths)
    setting = f"{ROW} tokens a row, {OPEN_ROWS} open rows"
    print(f"   fill {fill:.4f}, {rate:,.0f} sequences/s", flush=True)
    padded, packed = step_seconds()
    print(f"   step: padded {padded:.3f} s, packed {packed:.3f} s", flush=True)
    # Tokens a row: `ROW * fill` packed, the mean length padded; ideal is ROW over the mean.
    share = fill * padded / packed
    ideal = ROW / lengths.mean()
    note = f"{ideal * share:.2f}x of the ideal {ideal:.2f}x unpadded tokens/s"
    percent, plain = "{:.1%}", "{:,.0f}/s"
    return [
        judged("packing", 3, "packed over padded train step, share of the ideal ratio", share,
               at_least=0.95, form="{:.3f}", note=note, padded=padded, packed=packed),
        judged("packing", 3, f"packer fill, {setting}", fill, at_least=0.97, form=percent),
        judged("packing", 3, f"packer speed, one core, {setting}", rate, at_least=100_000,
               form=plain),
        judged("packing", 3, "packed and unpacked hidden states, relative difference",
               packed_difference(), at_most=EQUAL, form="{:.1e}"),
    ]  # fmt: skip


def pack_all(lengths: np.ndarray) -> tuple[float, float]:
    """Fill of all rows, and sequences placed in a second of CPU time (median of three)."""
    seconds = []
    for _ in range(3):
        rows, packer = 0, OpenRows(ROW, SEGMENTS)
        began = time.process_time()
        for start in range(0, len(lengths), BLOCK):
            block = lengths[start : start + BLOCK]
            rows += len(packer.add(list(range(start, start + len(block))), block.tolist()))
        seconds.append(time.process_time() - began)
        rows += len(packer.close())
    return lengths.sum() / (rows * ROW), len(lengths) / statistics.median(seconds)


def step_seconds() -> tuple[float, float]:
    """Median CPU seconds of a step on padded and on packed rows, measured in turn."""
    rng = np.random.default_rng(1)
    sequences = inputs.proteins(rng, inputs.protein_lengths(rng, 400, ROW))
    steps = [stepper(sequences, segments) for segments in (1, SEGMENTS)]
    for step in steps:
        step()
    times = np.array([[step() for step in steps] for _ in range(ROUNDS)])
    padded, packed = np.median(times, axis=0)
    return float(padded), float(packed)


def stepper(sequences: list[np.ndarray], segments: int):
    """A function that takes a training step on the next batch and returns its CPU seconds."""
    vocabulary, mesh = esm2_tokenizer().vocabulary, MeshSpec().build()
    batches = example_batches(
        sequences, vocabulary, max_tokens=ROW, segments=segments, batch_size=STEP_ROWS, seed=0
    )
    first = next(batches)
    with jax.set_mesh(mesh):
        program = build_program(
            ESM2["8M"].build(),
            MaskedLM().build(vocabulary),
            lambda axes: OptimizerSpec().build(1000, axes),
            mesh,
            first,
        )
        held = [program.init(0)]

    def step() -> float:
        batch = to_devices(mesh, next(batches))
        with jax.set_mesh(mesh):
            began = time.process_time()
            held[0], metrics = program.step(held[0], batch)
            jax.block_until_ready((held[0], metrics))
        return time.process_time() - began

    return step


def packed_difference() -> float:
    """The largest relative difference of a protein's hidden states, packed and alone."""
    rng = np.random.default_rng(2)
    sequences = inputs.proteins(rng, inputs.protein_lengths(rng, 12, 512))
    vocabulary, model = esm2_tokenizer().vocabulary, ESM2["8M"].build()
    params = None
    apply = jax.jit(lambda params, batch: model.apply(params, batch).hidden)
    hidden = []
    for segments in (SEGMENTS, 1):
        packed = pack_examples(
            sequences, vocabulary, max_tokens=512, segments=segments, batch_size=4
        )
        if params is None:
            params = model.init(jax.random.key(0), packed.batches[0])
        outputs = [np.asarray(apply(params, batch)) for batch in packed.batches]
        hidden.append(
            [
                outputs[b][r][packed.batches[b].segment_ids[r] == s + 1]
                for b, r, s in zip(packed.batch, packed.row, packed.segment)
            ]
        )
    return max(
        float(np.linalg.norm(together - alone) / np.linalg.norm(alone))
        for together, alone in zip(*hidden, strict=True)
    )


if __name__ == "__main__":
    run_part(measure)
