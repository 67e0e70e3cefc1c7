"""What a compiled step moves, keeps and computes, against theory (eight simulated devices)."""

import pytest

from benchmarks.costs import (
    CONTEXT,
    FLOAT,
    FSDP,
    OTHERS,
    STEPS,
    TENSOR,
    TOKENS,
    compiled,
    layer_slope,
)

pytestmark = pytest.mark.slow
CASES = pytest.mark.parametrize("name", STEPS)


@CASES
def test_fsdp_gathers_parameters_twice_and_scatters_gradients_once(name):
    step = compiled(name, FSDP)
    least = step.fsdp_least()
    gathered, reduced = step.sent("all-gather"), step.sent("all-reduce")
    # XLA has no reduce-scatter on a CPU: an all-reduce stands in, which sends twice as much.
    assert 0.9 * least < gathered + reduced / 2 + step.sent("reduce-scatter") <= 1.05 * least
    assert gathered + reduced <= 1.35 * least
    assert step.sent("all-to-all") == 0


@CASES
def test_tensor_parallelism_sums_hidden_states_and_gathers_nothing(name):
    step = compiled(name, TENSOR)
    assert 0.99 < step.sent("all-reduce") / step.tensor_least() <= 1.4
    assert step.sent("all-gather") == step.sent("all-to-all") == 0


@CASES
def test_context_parallelism_gathers_keys_and_values_only(name):
    step = compiled(name, CONTEXT)
    moved = step.sent("all-gather") + step.sent("reduce-scatter")
    assert 0.99 < moved / step.context_least() <= 1.05
    assert step.sent("reduce-scatter") == pytest.approx(step.context_least() / 3)
    # The gradients are those of data parallelism.
    assert step.sent("all-reduce") <= 1.1 * 2 * OTHERS * FLOAT * step.parameters


@CASES
@pytest.mark.parametrize("sizes", [FSDP, TENSOR], ids=["fsdp", "tensor"])
def test_the_state_is_cut_and_donated(name, sizes):
    step = compiled(name, sizes)
    assert step.memory.argument_size_in_bytes <= 1.01 * (step.state_bytes() + step.batch_bytes())
    if sizes == FSDP:  # norms and biases, a thousandth of a large model, lie whole
        assert step.state_bytes() == pytest.approx(12 * step.parameters / 8, rel=0.02)
    assert step.memory.alias_size_in_bytes >= 0.999 * step.state_bytes()


def test_a_layer_keeps_its_input_and_nothing_else():
    """Scan and remat: the slope by layers of what grows with the rows."""
    assert layer_slope() == pytest.approx(compiled("encoder", FSDP).hidden_bytes / 8, rel=0.05)


@CASES
@pytest.mark.parametrize("sizes", [FSDP, CONTEXT], ids=["fsdp", "context"])
def test_no_array_is_a_square_of_the_row(name, sizes):
    step = compiled(name, sizes)
    arrays = [
        array.dims
        for computation in step.module.computations.values()
        for one in computation.instructions.values()
        for array in one.arrays
    ]
    assert any(TOKENS in dims for dims in arrays)
    assert not [dims for dims in arrays if dims.count(TOKENS) > 1]


@CASES
@pytest.mark.parametrize(("remat", "most"), [("none", 1.06), ("full", 1.40)])
def test_little_is_computed_twice(name, remat, most):
    assert 0.99 <= compiled(name, FSDP, remat=remat).flops_ratio() <= most
