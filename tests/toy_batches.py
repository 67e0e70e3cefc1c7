"""Packed toy batches, a tiny model and its objectives, shared by the tests of several rooms."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.models.heads import PredictionHead, ProjectionHead
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.contrastive import Contrastive
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.objectives.next_token import NextToken
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import Program, build_program

VOCABULARY = esm2_tokenizer().vocabulary
RESIDUES = np.arange(4, 24)

# Compiling is most of what these tests do; unoptimised code compiles four times as fast.
FAST_COMPILE = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

TINY = TransformerSpec(layers=2, width=32, heads=4, dropout=0.1, init_std=0.1)

# name -> (objective, model)
CASES = {
    "masked": (MaskedLM(), TINY),
    "next_token": (NextToken(), dataclasses.replace(TINY, causal=True)),
    "softmax": (Contrastive(), dataclasses.replace(TINY, head=ProjectionHead(16))),
    "sigmoid": (Contrastive("sigmoid"), dataclasses.replace(TINY, head=ProjectionHead(16))),
    "supervised": (Supervised("squared"), dataclasses.replace(TINY, head=PredictionHead(2))),
}

FAST = OptimizerSpec(learning_rate=1e-2, schedule="constant", warmup=1, weight_decay=0.1)


def packed(rows=16, tokens=32, slots=4, seed=0, lengths=(4, 14)) -> Batch:
    """Rows of one to `slots` examples with cls and eos; the rest is padding."""
    rng = np.random.default_rng(seed)
    ids = np.full((rows, tokens), VOCABULARY.pad, np.int32)
    segments, positions = np.zeros((2, rows, tokens), np.int32)
    examples = np.full((rows, slots), -1, np.int32)
    number = 100 * seed
    for row in range(rows):
        start = 0
        for slot in range(slots):
            length = int(rng.integers(*lengths))
            if start + length > tokens:
                break
            part = slice(start, start + length)
            ids[row, part] = rng.choice(RESIDUES, length)
            ids[row, start], ids[row, part.stop - 1] = VOCABULARY.cls, VOCABULARY.eos
            segments[row, part], positions[row, part] = slot + 1, np.arange(length)
            examples[row, slot], number, start = number, number + 1, part.stop
    return Batch(ids, segments, positions, examples)


def batch_for(name: str, rows=16, seed=0) -> Batch:
    """A batch with what an objective of CASES reads."""
    batch = packed(rows, seed=seed)
    if name in ("softmax", "sigmoid"):
        other = packed(rows, seed=seed).tokens.copy()
        rng = np.random.default_rng(seed + 1)
        regular = np.isin(other, RESIDUES)
        other[regular] = rng.choice(RESIDUES, regular.sum())
        return batch.replace(pair=batch.replace(tokens=other))
    if name == "supervised":
        rng = np.random.default_rng(seed)
        shape = (*batch.examples.shape, 2)
        there = (batch.examples >= 0)[:, :, None] & (rng.random(shape) < 0.8)
        return batch.replace(
            targets=rng.normal(size=shape).astype(np.float32), weights=there.astype(np.float32)
        )
    return batch


def one_device():
    """A mesh of the first device."""
    return MeshSpec(data=1).build(jax.devices()[:1])


@functools.cache
def parameters(spec: TransformerSpec, seed=0):
    """Parameters of a model as numpy arrays."""
    init = jax.jit(spec.build().init, compiler_options=FAST_COMPILE)
    return jax.device_get(init(jax.random.key(seed), None))


@dataclasses.dataclass(frozen=True)
class Toy:
    """The program of a case, compiled without optimisation.

    Attributes:
        built: the program.
        mesh: what it was built for.
        step: (state, batch) -> (state, metrics).
        spec: the model.
    """

    built: Program
    mesh: object
    step: Callable
    spec: TransformerSpec

    def start(self):
        """A fresh state on the mesh, the same for every mesh."""
        return self.built.adopt(0, parameters(self.spec))

    def put(self, batch):
        """A batch on the mesh."""
        return to_devices(self.mesh, batch)


@functools.cache
def program(name: str, accumulate=1, sizes=(1, 1, 1, 1), optimizer=FAST, rows=16) -> Toy:
    """The program of a case, compiled once for all tests of a process."""
    objective, spec = CASES[name]
    mesh = MeshSpec(*sizes).build(jax.devices()[: int(np.prod(sizes))])
    batch = batch_for(name, rows)
    built = build_program(
        spec.build(),
        objective.build(VOCABULARY),
        lambda axes: optimizer.build(20, axes),
        mesh,
        batch,
        accumulate,
    )
    step = built.step.lower(built.shapes, batch).compile(compiler_options=FAST_COMPILE)
    return Toy(built, mesh, step, spec)


@functools.cache
def evaluation(name: str) -> Callable:
    """The held-out loss of a case on one device: (state, batch) -> (sum, weight)."""
    toy = program(name)
    lowered = toy.built.evaluate.lower(toy.built.shapes, batch_for(name))
    return lowered.compile(compiler_options=FAST_COMPILE)


@contextlib.contextmanager
def compiled_once(folder):
    """Programs that are jitted anew by each call of the code under test are compiled once."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[0], str(folder))
    jax.config.update(names[1], 0.1)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
