import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import (
    CASES,
    FAST,
    FAST_COMPILE,
    VOCABULARY,
    batch_for,
    evaluation,
    one_device,
    parameters,
    program,
)

from biofm_jax.data.batch import batch_shapes
from biofm_jax.errors import UserError
from biofm_jax.train.mesh import abstract_mesh
from biofm_jax.train.step import build_program, join_rows, split_rows

# Plain gradient descent: Adam divides by the gradient's size and would hide its scale, and
# magnifies rounding where the gradient is nearly zero.
PLAIN = dataclasses.replace(FAST, eps=1.0, learning_rate=0.5, weight_decay=0.0, clip_norm=0.0)


def two_steps(name, accumulate):
    toy = program(name, accumulate, optimizer=PLAIN)
    state, losses = toy.start(), []
    for seed in range(2):
        state, metrics = toy.step(state, batch_for(name, seed=seed))
        losses.append(jax.device_get(metrics))
    return jax.device_get(state.params), losses


@pytest.mark.parametrize("name", CASES)
def test_accumulated_gradients_are_those_of_one_big_batch(name):
    start = parameters(CASES[name][1])
    want, losses = two_steps(name, 1)
    got, cut = two_steps(name, 4)
    for a, b in zip(losses, cut, strict=True):
        for metric in a:
            np.testing.assert_allclose(b[metric], a[metric], rtol=1e-5, err_msg=metric)
    # The change from the start is the sum of two gradients; its error is measured on its size.
    for path, value in jax.tree.leaves_with_path(jax.tree.map(np.subtract, want, start)):
        other = jax.tree.map(np.subtract, got, start)
        for key in path:
            other = other[key.key]
        error = np.linalg.norm(other - value)
        assert error <= 1e-5 * np.linalg.norm(value) + 1e-7, path


def test_dropout_is_on_in_the_step_and_off_in_evaluation():
    toy, evaluate = program("next_token"), evaluation("next_token")
    batch = batch_for("next_token")
    total, weight = evaluate(toy.start(), batch)
    model = toy.spec.build()
    want = (
        CASES["next_token"][0]
        .build(VOCABULARY)
        .loss(model.apply, parameters(toy.spec), {}, batch, None)
    )
    np.testing.assert_allclose(total, want.total, rtol=1e-5)
    # Another step count is another key: other dropout.
    losses = []
    for number in (0, 1):
        state = dataclasses.replace(toy.start(), step=jnp.asarray(number, jnp.int32))
        losses.append(float(toy.step(state, batch)[1]["loss"]))
    assert len({*losses, float(total / weight)}) == 3


def test_masks_of_the_held_out_loss_are_the_same_each_time():
    toy, evaluate, batch = program("masked"), evaluation("masked"), batch_for("masked")
    later = dataclasses.replace(toy.start(), step=jnp.asarray(5, jnp.int32))
    assert float(evaluate(toy.start(), batch)[0]) == float(evaluate(later, batch)[0])


def test_an_objective_that_compares_examples_is_not_accumulated_without_two_passes():
    objective, spec = CASES["softmax"]
    one_pass = dataclasses.replace(objective.build(VOCABULARY), embed=None)
    arguments = (lambda axes: FAST.build(5, axes), one_device(), batch_for("softmax"))
    with pytest.raises(UserError, match=r"loop\.accumulate to 1"):
        build_program(spec.build(), one_pass, *arguments, accumulate=4)
    build_program(spec.build(), one_pass, *arguments, accumulate=1)


def test_plain_accumulation_would_change_the_contrastive_loss():
    """The two-pass form is needed: microbatches alone see fewer negatives."""
    evaluate = evaluation("softmax")
    state, batch = program("softmax").start(), batch_for("softmax")
    whole = float(evaluate(state, batch)[0])
    empty = np.arange(16) >= 4
    parts = 0.0
    for part in range(4):
        rows = np.roll(np.arange(16), -4 * part)
        cut = jax.tree.map(lambda x, rows=rows: x[rows], batch)
        examples = np.where(empty[:, None], -1, cut.examples)
        parts += float(evaluate(state, cut.replace(examples=examples))[0])
    assert whole > 1.3 * parts


def test_rows_that_microbatches_do_not_divide_are_refused():
    objective, spec = CASES["masked"]
    with pytest.raises(UserError, match=r"loop\.batch_size 16 .* loop\.accumulate 3"):
        build_program(
            spec.build(),
            objective.build(VOCABULARY),
            lambda axes: FAST.build(5, axes),
            one_device(),
            batch_shapes(16, 32, 4),
            accumulate=3,
        )


def test_a_program_is_built_without_allocating():
    """A model far larger than the memory, on a mesh that is not here."""
    objective, spec = CASES["masked"]
    huge = dataclasses.replace(spec, layers=96, width=16384, heads=128)
    shapes = batch_shapes(64, 32, 4)
    built = build_program(
        huge.build(),
        objective.build(VOCABULARY),
        lambda axes: FAST.build(5, axes),
        abstract_mesh((16, 4, 1, 1)),
        shapes,
    )
    state, metrics = jax.eval_shape(built.step, built.shapes, shapes)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) > 3e11
    assert metrics["loss"].shape == ()


def test_the_state_is_donated_and_given_parameters_stay_the_callers():
    toy = program("masked")
    params = jax.tree.map(jnp.asarray, parameters(toy.spec))
    state = toy.built.adopt(0, params)
    toy.step(state, batch_for("masked"))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), parameters(toy.spec))


def test_random_parameters_follow_the_seed():
    init = program("masked").built.init.lower(0).compile(compiler_options=FAST_COMPILE)
    first, same, other = (init(seed).params for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, same)
    kernel = [np.asarray(p["blocks"]["feedforward"]["up"]["kernel"]) for p in (first, other)]
    assert (kernel[0] != kernel[1]).mean() > 0.99


def test_split_and_join_are_inverse_and_keep_every_device_busy():
    rows = np.arange(24).reshape(12, 2)
    parts = split_rows(rows, 3)
    np.testing.assert_array_equal(parts[1, :, 0] // 2, [1, 4, 7, 10])
    np.testing.assert_array_equal(join_rows(parts), rows)
