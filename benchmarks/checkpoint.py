"""Goal 6: what a checkpoint in the background costs a run, and that donating does not harm it.

The state is that of ESM-2 35M with Adam (about 400 MB). A synchronous save is one that the run
waits for. The overhead is by how much longer a number of steps takes when a save runs beside
them, waited for at the end. All in wall time: the disk counts.
"""

import logging
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks import inputs
from benchmarks.results import Row, judged, run_part
from biofm_jax.data.in_memory import pack_examples
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.checkpoint import Checkpoints
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import build_program
from biofm_jax.zoo.esm import ESM2

ROUNDS = 3
ROW = 128  # tokens of the one row of a step: many steps fit beside a save
RECORD = {"data": {}, "experiment": {}}


class Run:
    """A state, a batch, and the checkpoints of both in a folder."""

    def __init__(self, folder: Path):
        vocabulary, mesh = esm2_tokenizer().vocabulary, MeshSpec(data=1).build(jax.devices()[:1])
        sequences = inputs.proteins(np.random.default_rng(0), np.full(1, ROW))
        batch = pack_examples(sequences, vocabulary, max_tokens=ROW, segments=1, batch_size=1)
        batch = batch.batches[0]
        self.program = build_program(
            ESM2["35M"].build(),
            MaskedLM().build(vocabulary),
            lambda axes: OptimizerSpec().build(1000, axes),
            mesh,
            batch,
        )
        self.batch = to_devices(mesh, batch)
        self.state = self.program.init(0)
        self.checkpoints = Checkpoints(folder, keep=1)
        self._number = 0

    def steps(self, count: int) -> None:
        """Take steps, each donating the state before it, and wait for the last."""
        for _ in range(count):
            self.state, _ = self.program.step(self.state, self.batch)
        jax.block_until_ready(self.state)

    def save(self) -> float:
        """Start a save; the seconds until the run may go on."""
        self._number += 1
        began = time.monotonic()
        self.checkpoints.save(self._number, self.state, RECORD)
        return time.monotonic() - began

    def synchronous(self) -> float:
        """Seconds of a save that is waited for."""
        return self.save() + _seconds(self.checkpoints.wait)


def measure() -> list[Row]:
    """Time saves alone, steps alone, and both together, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        # Orbax warns of every save that is waited for.
        logging.getLogger("absl").setLevel(logging.ERROR)
        run = Run(Path(folder) / "checkpoints")
        run.steps(2)
        run.synchronous()
        step = _seconds(lambda: run.steps(4)) / 4
        count = max(4, round(2.0 * run.synchronous() / step))
        saves, blocks, added = [], [], []
        for number in range(ROUNDS):
            saves.append(run.synchronous())
            alone = _seconds(lambda: run.steps(count))
            began = time.monotonic()
            blocks.append(run.save())
            run.steps(count)
            run.checkpoints.wait()
            added.append(time.monotonic() - began - alone)
            print(
                f"   round {number + 1} of {ROUNDS}: sync {saves[-1]:.2f} s, blocks "
                f"{blocks[-1]:.3f} s, adds {added[-1]:.2f} s to {count} steps of {alone:.1f} s",
                flush=True,
            )
        equal = bitwise(run, count)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(run.state)) / 1e6
        run.checkpoints.close()
    sync = statistics.median(saves)
    of = f"of a sync save of {sync:.2f} s, state of {size:.0f} MB"
    raw = {"sync": saves, "blocks": blocks, "added": added}
    return [
        judged("checkpoint", 6, f"async save blocks the run, share {of}",
               statistics.median(blocks) / sync, at_most=0.15, form="{:.1%}", **raw),
        judged("checkpoint", 6, f"async save adds to the run, share {of}",
               statistics.median(added) / sync, at_most=0.40, form="{:.1%}"),
        judged("checkpoint", 6, "bytes restored that differ, saved while the state is donated",
               equal, at_most=0, form="{:d}"),
    ]  # fmt: skip


def bitwise(run: Run, count: int) -> int:
    """Bytes that differ between a state and its checkpoint, written while steps donate it."""
    before = jax.tree.map(np.array, run.state)
    run.save()
    run.steps(count)
    run.checkpoints.wait()
    restored = run.checkpoints.restore(run.program.shapes, run.program.shardings).state

    def differing(a, b):
        a, b = (np.frombuffer(np.asarray(x).tobytes(), np.uint8) for x in (a, b))
        return int((a != b).sum())

    return sum(jax.tree.leaves(jax.tree.map(differing, before, restored)))


def _seconds(function) -> float:
    began = time.monotonic()
    function()
    return time.monotonic() - began


if __name__ == "__main__":
    run_part(measure)
