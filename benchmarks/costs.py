"""Goals 10, 11 and 12: what the compiled step moves, keeps and computes, against theory.

Steps of an encoder (masked), a decoder (next token), a contrastive model and a vision transformer
(supervised), each compiled for eight simulated devices and never run: collectives, memory and FLOPs
are read from the program.
`tests/train/test_compiled_costs.py` holds them to the goals.
"""

import dataclasses
import functools
import math
import os

import jax

from benchmarks.results import Row, judged, run_part
from biofm_jax.data.batch import Batch, batch_shapes
from biofm_jax.data.labelled_images import LabelledImageData
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.models.heads import PredictionHead, ProjectionHead
from biofm_jax.models.positions import Rotary
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.models.vision import VisionSpec
from biofm_jax.objectives.contrastive import Contrastive
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.objectives.next_token import NextToken
from biofm_jax.objectives.supervised import Supervised
from biofm_jax.plan.counting import Counts, count
from biofm_jax.plan.hlo import Module, parse
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.step import Program, build_program

ROWS, TOKENS, SLOTS, FLOAT = 16, 320, 4, 4  # bytes of a float32
SPEC = TransformerSpec(layers=2, width=512, heads=8, positions=Rotary(), remat="full")
IMAGE = (80, 64)  # as many patches of 4 x 4 pixels as TOKENS
VISION = VisionSpec(
    layers=2,
    width=512,
    heads=8,
    image=IMAGE,
    patch=(4, 4),
    class_token=False,
    class_position=False,
    pooling="mean",
    head=PredictionHead(2),
    remat="full",
)
FSDP, TENSOR, CONTEXT = (1, 8, 1, 1), (1, 1, 8, 1), (1, 1, 1, 8)
OTHERS = 7 / 8  # what a ring sends: all but the device's own part
# Machine code of any quality: only the program's text is read.
QUICK = {"xla_backend_optimization_level": 0}
STEPS = {
    "encoder": (MaskedLM(), SPEC),
    "decoder": (NextToken(), dataclasses.replace(SPEC, causal=True)),
    "contrastive": (Contrastive(), dataclasses.replace(SPEC, head=ProjectionHead(64))),
    "vision": (Supervised("softmax"), VISION),
}


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled step and its theory.

    Attributes:
        spec: the model.
        sizes: of the mesh.
        rows: that go through the model, views of a record apart.
        batch: its shapes.
        built: the program it was compiled from.
        module: its text, parsed.
        counts: what one device does in it.
        memory: the compiler's own account.
    """

    spec: TransformerSpec
    sizes: tuple[int, int, int, int]
    rows: int
    batch: Batch
    built: Program
    module: Module
    counts: Counts
    memory: object

    @property
    def parameters(self) -> int:
        """Number of them."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.built.shapes.params))

    @property
    def hidden_bytes(self) -> int:
        """Of the hidden states of all rows, (b, t, d) float32."""
        return self.rows * TOKENS * self.spec.width * FLOAT

    def sent(self, kind: str, axes: str | None = None) -> float:
        """Bytes that a device sends in collectives of a kind."""
        found = self.counts.collectives
        return sum(c.bytes for c in found if c.kind == kind and axes in (None, c.axes))

    def fsdp_least(self) -> float:
        """Bytes a device sends to gather all parameters twice and scatter their gradients."""
        return 3 * OTHERS * FLOAT * self.parameters

    def tensor_least(self) -> float:
        """Bytes a device sends to sum two hidden states a layer, forward and backward."""
        return 4 * self.spec.layers * 2 * OTHERS * self.hidden_bytes

    def context_least(self) -> float:
        """Bytes to gather keys and values, forward and in the rematerialised backward pass, and to
        scatter their gradients."""
        return 6 * self.spec.layers * OTHERS * self.hidden_bytes

    def state_bytes(self) -> int:
        """Bytes of a device's part of the state."""
        pairs = zip(
            jax.tree.leaves(self.built.shapes), jax.tree.leaves(self.built.shardings), strict=True
        )
        return sum(
            math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf, sharding in pairs
        )

    def batch_bytes(self) -> float:
        """Bytes of a device's part of the batch."""
        leaves = jax.tree.leaves(self.batch)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / math.prod(self.sizes[:2])

    def flops_ratio(self) -> float:
        """Compiled FLOPs of all devices over model FLOPs; a row is one example here."""
        if isinstance(self.spec, VisionSpec):
            model = self.spec.batch_flops(self.batch, TOKENS)
            return 8 * self.counts.flops / model
        masked = round(0.15 * TOKENS) / TOKENS
        predicted = 1.0 if self.spec.causal else masked
        full = dataclasses.replace(self.spec, causal=False)  # plain XLA computes what it masks
        per_token = full.train_flops(TOKENS, predicted, SLOTS / TOKENS)
        return 8 * self.counts.flops / (per_token * self.rows * TOKENS)


def shapes(name: str, rows: int) -> Batch:
    """Those of a case's batch."""
    if name == "vision":
        return LabelledImageData(image=IMAGE, classes=("0", "1")).shapes(rows)
    return batch_shapes(rows, TOKENS, SLOTS, paired=name == "contrastive")


def compiled(name: str, sizes: tuple[int, int, int, int], rows=ROWS, **changes) -> Step:
    """The step of a case on a mesh of (data, fsdp, tensor, context), with fields of the model."""
    return _compiled(name, sizes, rows, dataclasses.replace(STEPS[name][1], **changes))


@functools.cache
def _compiled(name: str, sizes: tuple[int, int, int, int], rows: int, spec) -> Step:
    """A case whose model is `spec`; a field that is given its default compiles nothing anew."""
    objective, _ = STEPS[name]
    mesh = MeshSpec(*sizes).build()
    batch = shapes(name, rows)
    built = build_program(
        spec.build(),
        objective.build(esm2_tokenizer().vocabulary),
        lambda axes: OptimizerSpec().build(20, axes),
        mesh,
        batch,
    )
    program = built.step.lower(built.shapes, batch).compile(compiler_options=QUICK)
    module = parse(program.as_text())
    counts = count(module, sizes)
    rows = rows if batch.pair is None else 2 * rows
    return Step(spec, sizes, rows, batch, built, module, counts, program.memory_analysis())


def layer_slope(name: str = "encoder", layers: tuple[int, int] = (2, 6)) -> float:
    """Bytes of temporaries that a layer adds for ROWS rows, on one of eight devices."""
    few, many = (
        [
            compiled(name, FSDP, rows, layers=n).memory.temp_size_in_bytes
            for rows in (ROWS, 2 * ROWS)
        ]
        for n in layers
    )
    return ((many[1] - many[0]) - (few[1] - few[0])) / (layers[1] - layers[0])


def measure() -> list[Row]:
    """Compile every step on every mesh and compare it with theory."""
    rows = []

    def row(goal, figure, value, **options):
        rows.append(judged("costs", goal, figure, value, form="{:.3f}", **options))

    for name in STEPS:
        step = compiled(name, FSDP)
        gathered, reduced = step.sent("all-gather"), step.sent("all-reduce")
        least, what = step.fsdp_least(), f"{name}, 8-way FSDP"
        row(10, f"{what}, bytes sent over the least", (gathered + reduced / 2) / least,
            at_most=1.05, note="all-reduce counted as a reduce-scatter")  # fmt: skip
        row(10, f"{what}, raw bytes over the least", (gathered + reduced) / least, at_most=1.35)
        state = step.memory.alias_size_in_bytes / step.state_bytes()
        row(11, f"{what}, donated share of the state", state, at_least=0.999)
        row(12, f"{what}, remat full, compiled over model FLOPs", step.flops_ratio(), at_most=1.40)
        plain = compiled(name, FSDP, remat="none")
        row(12, f"{what}, no remat, compiled over model FLOPs", plain.flops_ratio(), at_most=1.06)
        step = compiled(name, TENSOR)
        reduced = step.sent("all-reduce") / step.tensor_least()
        row(10, f"{name}, 8-way tensor, all-reduced bytes over the least", reduced, at_most=1.4)
        step = compiled(name, CONTEXT)
        sent = (step.sent("all-gather") + step.sent("reduce-scatter")) / step.context_least()
        row(10, f"{name}, 8-way context, bytes of keys and values over the least", sent,
            at_most=1.05)  # fmt: skip
    slope = layer_slope() / (compiled("encoder", FSDP).hidden_bytes / 8)
    row(11, "encoder, 8-way FSDP, remat full, a layer's memory over its input", slope, at_most=1.05)
    return rows


if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    run_part(measure)
