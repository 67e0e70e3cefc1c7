"""The same training on every mesh: losses of three steps against those of one device.

Steps of an encoder (masked), a decoder (next token), a contrastive model and an encoder-decoder
(denoising) with dropout, on eight simulated devices, in float32. The difference is the largest of
the three losses and gradient norms, relative to one device's. Adam's first updates are the signs of
the gradients, those of rounding errors among them, so that a far higher rate than is used for
training would show how it amplifies them. `tests/train/test_meshes.py` and
`test_encoder_decoder_meshes.py` hold smaller ones to the same bar.
"""

import dataclasses
import os

import jax
import numpy as np

from benchmarks.results import Row, judged, run_part
from biofm_jax.data.batch import Batch
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.positions import Relative, Rotary
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.contrastive import Contrastive
from biofm_jax.objectives.denoising import Denoising
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.objectives.next_token import NextToken
from biofm_jax.train.mesh import AXES, MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import build_program

ROWS, TOKENS = 16, 64
SPEC = TransformerSpec(layers=2, width=64, heads=8, positions=Rotary(), dropout=0.1)
STEPS = {
    "encoder": (MaskedLM(), SPEC),
    "decoder": (NextToken(), dataclasses.replace(SPEC, causal=True)),
    "decoder with attention dropout and 2 key heads": (
        NextToken(),
        dataclasses.replace(SPEC, causal=True, kv_heads=2, attention_dropout=0.1),
    ),
    "relative positions": (MaskedLM(), dataclasses.replace(SPEC, positions=Relative())),
    "encoder-decoder": (
        Denoising(),
        EncoderDecoderSpec(
            encoder=dataclasses.replace(SPEC, head=None, positions=Relative()),
            decoder=dataclasses.replace(SPEC, causal=True, positions=Relative()),
        ),
    ),
    "contrastive": (Contrastive(), dataclasses.replace(SPEC, head=ProjectionHead(16))),
}
# (data, fsdp, tensor, context)
LAYOUTS = (
    (8, 1, 1, 1),
    (1, 8, 1, 1),
    (1, 1, 8, 1),
    (1, 1, 1, 8),
    (2, 2, 2, 1),
    (1, 2, 2, 2),
    (2, 1, 1, 4),
)


def batch_of(seed: int, paired: bool) -> Batch:
    """Rows of three proteins of random lengths, and padding; a second view where asked for."""
    vocabulary, rng = esm2_tokenizer().vocabulary, np.random.default_rng(seed)
    lengths = rng.integers(8, TOKENS // 3, (ROWS, 3))
    ends = np.cumsum(lengths, axis=1)
    index = np.arange(TOKENS)
    segment_ids = 1 + (index[None, :, None] >= ends[:, None, :]).sum(-1)
    starts = np.take_along_axis(np.pad(ends, ((0, 0), (1, 0))), segment_ids - 1, axis=1)
    real = segment_ids <= 3

    def view() -> Batch:
        tokens = rng.choice(np.array(vocabulary.regular), (ROWS, TOKENS))
        return Batch(
            tokens=np.where(real, tokens, vocabulary.pad).astype(np.int32),
            segment_ids=np.where(real, segment_ids, 0).astype(np.int32),
            positions=np.where(real, index - starts, 0).astype(np.int32),
            examples=np.arange(seed * 3 * ROWS, (seed + 1) * 3 * ROWS, dtype=np.int32).reshape(
                -1, 3
            ),
        )

    return view().replace(pair=view()) if paired else view()


def three_steps(name: str, sizes: tuple[int, int, int, int]) -> np.ndarray:
    """(3, 2) loss and gradient norm of each step."""
    objective, spec = STEPS[name]
    mesh = MeshSpec(*sizes).build(jax.devices()[: int(np.prod(sizes))])
    batches = [batch_of(seed, objective.views > 0) for seed in range(3)]
    built = build_program(
        spec.build(),
        objective.build(esm2_tokenizer().vocabulary),
        lambda axes: OptimizerSpec(learning_rate=1e-3, warmup=1).build(20, axes),
        mesh,
        batches[0],
    )
    state, metrics = built.adopt(0, spec.build().init(jax.random.key(0), None)), []
    for batch in batches:
        state, values = built.step(state, to_devices(mesh, batch))
        metrics.append([float(values["loss"]), float(values["gradient_norm"])])
    return np.array(metrics)


def measure() -> list[Row]:
    """Train every case on every mesh."""
    rows = []
    for name in STEPS:
        want = three_steps(name, (1, 1, 1, 1))
        for sizes in LAYOUTS:
            worst = float(np.max(np.abs(three_steps(name, sizes) / want - 1.0)))
            mesh = ", ".join(f"{axis} {n}" for axis, n in zip(AXES, sizes, strict=True) if n > 1)
            figure = f"{name} on {mesh}: loss and gradient norm against one device"
            rows.append(judged("meshes", None, figure, worst, at_most=1e-5, form="{:.1e}"))
            print(f"   {figure}: {worst:.1e}", flush=True)
    return rows


if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    run_part(measure)
