"""Goal 9: sequences of all lengths, one compiled train step.

200 steps of the real loop on packed batches of proteins of 12 to 600 tokens in rows of 128,
ESM-2 8M. Counted are the entries of the step's own cache and, independently, the programs that
XLA compiled for it.
"""

import logging

import jax
import numpy as np

from benchmarks import inputs
from benchmarks.results import Row, judged, run_part
from biofm_jax.data.in_memory import example_batches
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.loop import LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.zoo.esm import ESM2

BATCHES, ROWS, TOKENS = 200, 1, 128


class Compilations(logging.Handler):
    """Collects the names of the programs that XLA has compiled."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the name in `Finished XLA compilation of NAME in ... sec`."""
        words = record.getMessage().split()
        if words[:4] == ["Finished", "XLA", "compilation", "of"]:
            self.names.append(words[4])


def measure() -> list[Row]:
    """Train on batches of ever other lengths and count the compilations."""
    rng = np.random.default_rng(0)
    sequences = inputs.proteins(rng, rng.integers(12, 600, 4 * BATCHES))
    vocabulary = esm2_tokenizer().vocabulary
    batches = example_batches(
        sequences, vocabulary, max_tokens=TOKENS, segments=8, batch_size=ROWS, seed=0
    )
    heard = Compilations()
    for name in ("jax._src.dispatch", "jax._src.interpreters.pxla"):
        logger = logging.getLogger(name)
        logger.addHandler(heard)
        logger.propagate = False
    jax.config.update("jax_log_compiles", True)
    done = fit(
        ESM2["8M"].build(),
        MaskedLM().build(vocabulary),
        batches,
        optimizer=OptimizerSpec(warmup=10),
        mesh=MeshSpec().build(),
        loop=LoopSpec(steps=BATCHES, batch_size=ROWS),
        title="recompile",
    )
    compiled = heard.names.count("jit(step)")
    figure = f"ESM-2 8M, compilations of the train step in {BATCHES} batches of mixed lengths"
    if not compiled:
        raise RuntimeError(f"no compilation of the step was heard of, only {set(heard.names)}")
    count = max(done.compilations, compiled)
    note = f"{compiled} by XLA, {done.compilations} in the step's cache"
    row = judged("recompile", 9, figure, count, at_most=1, form="{:d}", note=note)
    return [row]


if __name__ == "__main__":
    run_part(measure)
