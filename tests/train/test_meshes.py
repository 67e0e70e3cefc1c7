"""One device, data-parallel, fully sharded, tensor- and context-parallel: the same training."""

import dataclasses

import jax
import jax.extend
import numpy as np
import pytest
from toy_batches import CASES, FAST, VOCABULARY, batch_for, program

from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.step import build_program

# (data, fsdp, tensor, context)
LAYOUTS = {
    "data": (8, 1, 1, 1),
    "fsdp": (1, 8, 1, 1),
    "tensor": (2, 1, 4, 1),
    "context": (1, 2, 1, 4),
    "mixed": (1, 2, 2, 2),
}
# Every objective on every kind; all kinds at once where the loss is per token and over pairs.
PAIRS = [
    (name, layout)
    for name in CASES
    for layout in LAYOUTS
    if layout != "mixed" or name in ("masked", "softmax")
]


# Adam's first update of a value is rate * g / (|g| + eps): its sign, also of a g that is nothing
# but rounding. In the sigmoid form one bias of the feed-forward layer has a (clipped) gradient of
# 1.3e-8; on eight devices it differs from one device's by less than 1e-8, and with eps 1e-8 the
# bias moved by 0.48 and by 0.56 of the rate. That one value made the next gradient norm differ by
# 1.66e-5; with it put right, 9.6e-8 is left. One device differs from itself by 3.6e-5 where its
# start is changed in the last bit, and under SGD all meshes agree to 7e-7. With an eps above the
# rounding Adam too agrees to 7.2e-7 over three steps at the full rate.
STEADY = dataclasses.replace(FAST, eps=1e-3)


def three_steps(name, sizes):
    """(3, 2) loss and gradient norm of each step, with dropout on."""
    toy = program(name, sizes=sizes, optimizer=STEADY)
    state, metrics = toy.start(), []
    for seed in range(3):
        state, values = toy.step(state, toy.put(batch_for(name, seed=seed)))
        metrics.append([float(values["loss"]), float(values["gradient_norm"])])
    return np.array(metrics), state


@pytest.fixture(scope="module")
def single():
    """Three steps on one device, by objective."""
    done = {}

    def get(name):
        if name not in done:
            done[name] = three_steps(name, (1, 1, 1, 1))[0]
        return done[name]

    return get


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_every_layout_trains_as_one_device_does(name, layout, single):
    sizes = LAYOUTS[layout]
    want = single(name)
    assert want[0, 0] != want[1, 0]  # it learns, so that later steps test the update too
    got, state = three_steps(name, sizes)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    kernel = state.params["blocks"]["feedforward"]["up"]["kernel"]
    split = sizes[1] * sizes[2]  # at rest the parameters lie in as many parts
    assert kernel.addressable_shards[0].data.size * split == kernel.size
    moment = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == kernel.shape]
    assert moment and all(leaf.sharding == kernel.sharding for leaf in moment)


def kept_by_layer(jaxpr):
    """Shapes of what every forward scan of a program stacks by layer for the backward pass."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan" and not equation.params["reverse"]:
            found += [out.aval.shape for out in equation.outvars[equation.params["num_carry"] :]]
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += kept_by_layer(inner)
    return found


@pytest.mark.parametrize("layout", ["data", "mixed"])
@pytest.mark.parametrize("remat", ["none", "attention"])
def test_no_gathered_copy_of_the_weights_is_kept(layout, remat):
    objective, spec = CASES["masked"]
    spec = dataclasses.replace(spec, remat=remat)
    built = build_program(
        spec.build(),
        objective.build(VOCABULARY),
        lambda axes: FAST.build(20, axes),
        MeshSpec(*LAYOUTS[layout]).build(),
        batch_for("masked"),
    )
    traced = jax.make_jaxpr(built.step)(built.shapes, batch_for("masked"))
    kept = kept_by_layer(traced.jaxpr)
    assert kept  # activations
    blocks = jax.tree.leaves(built.shapes.params["blocks"])
    weights = {leaf.size for leaf in blocks if leaf.size >= spec.layers * spec.width**2}
    assert weights and not weights & {int(np.prod(shape)) for shape in kept}
