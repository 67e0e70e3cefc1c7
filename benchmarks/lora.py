"""What LoRA saves: parameters trained, optimizer state and memory of a tuning step.

ESM-2 35M (12 layers of width 480) with a prediction head, 4 rows of 256 tokens, AdamW, one
device; full fine-tuning against rank-8 adapters on all kernels of the blocks. Bytes are those of
the compiled step: arguments (parameters, optimizer state, batch) and temporaries. On XLA's CPU
backend a bfloat16 base is cast back for all layers at once, so it saves arguments and no
temporaries there. Steps of both are timed in turn.
"""

import dataclasses
import statistics
import time

import jax
import numpy as np

from benchmarks.results import Row, judged, run_part
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.lora_tuning import LoraSpec
from biofm_jax.adapt.tuning import TuningSpec
from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.models.heads import PredictionHead
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.step import build_program
from biofm_jax.zoo.esm import ESM2

SIZE, ROWS, TOKENS, TIMED = "35M", 4, 256, 7


class Contender:
    """A compiled tuning step and its state."""

    def __init__(self, spec: TuningSpec, remat: str):
        model = dataclasses.replace(ESM2[SIZE], head=PredictionHead(1), remat=remat).build()
        params = jax.jit(model.init)(jax.random.key(0), None)
        tuned = spec.cut(model, params, 0)
        mesh, self.batch = MeshSpec(data=1).build(jax.devices()[:1]), _batch()
        objective = Supervised("squared").build(esm2_tokenizer().vocabulary)
        program = build_program(
            tuned.model,
            objective,
            lambda axes: OptimizerSpec().build(100, axes),
            mesh,
            self.batch,
            base=tuned.base,
        )
        self.frozen = () if tuned.base is None else (tuned.base.params,)
        self.trained = sum(leaf.size for leaf in jax.tree.leaves(tuned.params))
        self.moments = _bytes(program.shapes.opt_state)
        self.step = program.step.lower(program.shapes, self.batch, *self.frozen).compile()
        memory = self.step.memory_analysis()
        self.arguments = memory.argument_size_in_bytes
        self.temporaries = memory.temp_size_in_bytes
        self.state = program.adopt(0, tuned.params)
        self.seconds: list[float] = []

    def run(self) -> None:
        """One timed step."""
        began = time.monotonic()
        self.state, metrics = self.step(self.state, self.batch, *self.frozen)
        jax.block_until_ready(metrics)
        self.seconds.append(time.monotonic() - began)


def measure() -> list[Row]:
    """Compile and time full fine-tuning and LoRA, and compare them."""
    rows = []
    for remat in ("none", "full"):
        full = Contender(FinetuneSpec(), remat)
        lora = Contender(LoraSpec(), remat)
        half = Contender(LoraSpec(base="bfloat16"), remat)
        for _ in range(TIMED):
            for contender in (full, lora):
                contender.run()
        rows += _rows(f"ESM-2 {SIZE}, remat={remat}, LoRA", remat, full, lora)
        rows.append(_bytes_row(f"ESM-2 {SIZE}, remat={remat}, LoRA on bfloat16: arguments",
                               full.arguments, half.arguments))  # fmt: skip
    return rows


def _rows(name: str, remat: str, full: Contender, lora: Contender) -> list[Row]:
    rows = []
    if remat == "none":  # the same for both
        share = 100 * lora.trained / full.trained
        note = f"{lora.trained:,} of {full.trained:,}"
        rows.append(judged("lora", None, f"{name}: parameters trained", share,
                           form="{:.2f}%", note=note))  # fmt: skip
        rows.append(_bytes_row(f"{name}: optimizer state", full.moments, lora.moments))
        rows.append(_bytes_row(f"{name}: arguments", full.arguments, lora.arguments))
    rows.append(_bytes_row(f"{name}: temporaries", full.temporaries, lora.temporaries))
    seconds = [statistics.median(c.seconds[1:]) for c in (full, lora)]
    note = f"{seconds[0]:.3f} s against {seconds[1]:.3f} s"
    rows.append(judged("lora", None, f"{name}: step time, full over LoRA",
                       seconds[0] / seconds[1], note=note))  # fmt: skip
    return rows


def _bytes_row(figure: str, full: int, lora: int) -> Row:
    note = f"{lora / 1e6:.1f} MB of {full / 1e6:.1f} MB"
    return judged("lora", None, figure, 100 * lora / full, form="{:.1f}%", note=note)


def _batch() -> Batch:
    rng = np.random.default_rng(0)
    ones = np.ones((ROWS, TOKENS), np.int32)
    return Batch(
        tokens=rng.integers(4, 24, (ROWS, TOKENS), dtype=np.int32),
        segment_ids=ones,
        positions=ones * np.arange(TOKENS, dtype=np.int32),
        examples=np.arange(ROWS, dtype=np.int32)[:, None],
        targets=rng.normal(size=(ROWS, 1, 1)).astype(np.float32),
        weights=np.ones((ROWS, 1, 1), np.float32),
    )


def _bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    run_part(measure)
