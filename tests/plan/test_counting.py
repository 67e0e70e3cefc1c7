"""Counts of real programs: compiled here, for eight simulated devices."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from biofm_jax.plan.counting import count
from biofm_jax.plan.hlo import parse
from biofm_jax.train.mesh import MeshSpec

D, F, L = 64, 256, 3
SIZES = (2, 4, 1, 1)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def compiled(function, *shapes, places=None):
    mesh = MeshSpec(2, 4).build()
    named = [NamedSharding(mesh, spec) for spec in places]
    return (
        jax.jit(function, in_shardings=named[:-1], out_shardings=named[-1]).lower(*shapes).compile()
    )


def test_known_collectives_of_a_scan():
    """Each of L layers gathers its weights over fsdp; the sum over rows crosses all devices."""
    mesh = MeshSpec(2, 4).build()

    def step(weights, x):
        def layer(x, w):
            w = jax.lax.with_sharding_constraint(w, NamedSharding(mesh, PartitionSpec()))
            return jnp.tanh(x @ w), None

        return jax.lax.scan(layer, x, weights)[0].sum()

    program = compiled(
        step,
        shape(L, D, D),
        shape(32, D),
        places=(PartitionSpec(None, "fsdp"), PartitionSpec(("data", "fsdp")), PartitionSpec()),
    )
    counts = count(parse(program.as_text()), SIZES)
    kinds = {(one.kind, one.axes): one for one in counts.collectives}
    assert set(kinds) == {("all-gather", "fsdp"), ("all-reduce", "data+fsdp")}
    assert kinds["all-gather", "fsdp"].bytes == L * 3 / 4 * D * D * 4
    assert kinds["all-reduce", "data+fsdp"].bytes == 2 * 7 / 8 * 4
    assert counts.flops == L * 2 * (32 / 8) * D * D
    # XLA's own count stops after one turn of the loop.
    assert program.cost_analysis()["flops"] < counts.flops


def test_a_scan_counts_as_its_unrolled_layers():
    """Forward and backward pass: the same products, and those that XLA counts unrolled."""

    def loss(weights, x, unroll):
        def layer(x, w):
            return x @ w[0] @ w[1], None

        return (jax.lax.scan(layer, x, weights, unroll=unroll)[0] ** 2).sum()

    shapes = [
        (
            jax.ShapeDtypeStruct((L, D, F), jnp.float32),
            jax.ShapeDtypeStruct((L, F, D), jnp.float32),
        ),
        jax.ShapeDtypeStruct((16, D), jnp.float32),
    ]
    counted = {}
    for unroll in (1, L):
        step = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2).lower(*shapes, unroll)
        program = step.compile(compiler_options={"xla_backend_optimization_level": 0})
        counted[unroll] = count(parse(program.as_text()), (1, 1, 1, 1)).flops
    assert counted[1] == counted[L] == 6 * 16 * D * F * 2 * L
    assert program.cost_analysis()["flops"] == pytest.approx(counted[L], rel=0.02)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_leave_padding_out(stride):
    """The compiler's count, on which padded windows stand for batches (as on a TPU)."""

    def run(x, w):
        return jax.lax.conv_general_dilated(x, w, (stride,), [(3, 3)], rhs_dilation=(2,))

    shapes = (
        jax.ShapeDtypeStruct((2, 3, 16), jnp.float32),
        jax.ShapeDtypeStruct((5, 3, 4), jnp.float32),
    )
    program = jax.jit(run).lower(*shapes).compile()
    own = count(parse(program.as_text()), (1, 1, 1, 1)).flops
    out = (16 + 6 - 7) // stride + 1
    met = sum(0 <= o * stride + 2 * k - 3 < 16 for o in range(out) for k in range(4))
    assert own == 2 * 2 * 3 * 5 * met
