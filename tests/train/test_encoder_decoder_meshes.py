"""An encoder-decoder trains on every layout of devices as on one."""

import functools

import jax
import numpy as np
import pytest
from toy_batches import FAST, FAST_COMPILE, VOCABULARY, packed

from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.positions import Relative
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.denoising import Denoising
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.placement import to_devices
from biofm_jax.train.step import build_program

STACK = dict(
    layers=2, width=32, heads=4, norm="rms", positions=Relative(8, 16), dropout=0.1, init_std=0.1
)
SPEC = EncoderDecoderSpec(
    encoder=TransformerSpec(head=None, **STACK), decoder=TransformerSpec(causal=True, **STACK)
)
LAYOUTS = {
    "fsdp": (1, 8, 1, 1),
    "tensor": (2, 1, 4, 1),
    "context": (1, 2, 1, 4),
    "mixed": (1, 2, 2, 2),
}


@functools.cache
def parameters():
    init = jax.jit(SPEC.build().init, compiler_options=FAST_COMPILE)
    return jax.device_get(init(jax.random.key(0), None))


def two_steps(sizes, accumulate=1):
    """(2, 2) loss and gradient norm of each step, with dropout on, and the last state."""
    mesh = MeshSpec(*sizes).build(jax.devices()[: int(np.prod(sizes))])
    built = build_program(
        SPEC.build(),
        Denoising().build(VOCABULARY),
        lambda axes: FAST.build(20, axes),
        mesh,
        packed(),
        accumulate,
    )
    step = built.step.lower(built.shapes, packed()).compile(compiler_options=FAST_COMPILE)
    state = built.adopt(0, parameters())
    metrics = []
    for seed in range(2):
        state, values = step(state, to_devices(mesh, packed(seed=seed)))
        metrics.append([float(values["loss"]), float(values["gradient_norm"])])
    return np.array(metrics), state


@pytest.fixture(scope="module")
def single():
    return two_steps((1, 1, 1, 1))[0]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_trains_as_one_device_does(layout, single):
    sizes = LAYOUTS[layout]
    got, state = two_steps(sizes)
    np.testing.assert_allclose(got, single, rtol=1e-5)
    for kernel in (
        state.params["decoder"]["blocks"]["cross_attention"]["q"]["kernel"],
        state.params["encoder"]["blocks"]["feedforward"]["up"]["kernel"],
    ):
        split = sizes[1] * sizes[2]  # at rest the parameters lie in as many parts
        assert kernel.addressable_shards[0].data.size * split == kernel.size


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_accumulation_is_one_big_batch(single):
    np.testing.assert_allclose(two_steps((1, 1, 1, 1), accumulate=2)[0], single, rtol=1e-5)
