import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_batches import FAST, TINY, batch_for, program

from biofm_jax.errors import UserError
from biofm_jax.train.optimizer import OptimizerSpec, parameter_path


@pytest.fixture(scope="module")
def parameters():
    """Random parameters of the tiny model and their axis names."""
    model = TINY.build()
    shapes = jax.eval_shape(model.init, jax.random.key(0), None)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    return params, model.axes(shapes)


def update_of(spec, params, axes, gradients=None, steps=10):
    """The first update, by parameter path."""
    transform = spec.build(steps, axes)
    gradients = jax.tree.map(np.ones_like, params) if gradients is None else gradients
    updates, _ = transform.update(gradients, transform.init(params), params)
    return {parameter_path(p): np.asarray(u) for p, u in jax.tree.leaves_with_path(updates)}


class TestSchedule:
    def rates(self, steps=100, **changes):
        spec = OptimizerSpec(learning_rate=1e-3, warmup=10, **changes)
        rate = spec.rate(steps)
        return np.array([float(rate(step)) for step in range(steps + 1)])

    @pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "inverse_sqrt"])
    def test_warm_up_reaches_the_peak_and_never_passes_it(self, schedule):
        rates = self.rates(schedule=schedule)
        np.testing.assert_allclose(rates[:10], 1e-3 * np.arange(1, 11) / 10, rtol=1e-5)
        assert rates.max() <= 1e-3 * (1 + 1e-6)
        assert rates[9] == rates.max()

    def test_linear_and_cosine_end_at_the_final_fraction(self):
        for schedule in ("linear", "cosine"):
            rates = self.rates(schedule=schedule, final=0.1)
            assert rates[100] == pytest.approx(1e-4, rel=1e-5)
            assert rates[55] == pytest.approx(5.5e-4, rel=1e-5)  # half-way
            assert (np.diff(rates[10:]) < 0).all()

    def test_linear_falls_by_the_same_amount_each_step(self):
        falls = np.diff(self.rates(schedule="linear")[10:])
        np.testing.assert_allclose(falls, falls[0], rtol=1e-3)

    def test_inverse_sqrt_halves_at_four_times_the_steps(self):
        rates = self.rates(schedule="inverse_sqrt")
        assert rates[10 + 30] == pytest.approx(1e-3 / 2, rel=1e-5)  # step 40 of warm-up 10

    def test_constant_stays(self):
        np.testing.assert_allclose(self.rates(schedule="constant")[9:], 1e-3, rtol=1e-6)

    def test_without_warm_up_the_first_step_is_the_peak(self):
        assert float(OptimizerSpec(learning_rate=1e-3, warmup=0).rate(10)(0)) == pytest.approx(1e-3)

    @pytest.mark.parametrize("change", [{"learning_rate": -1.0}, {"warmup": -1}])
    def test_negative_settings_are_refused(self, change):
        with pytest.raises(UserError, match=next(iter(change))):
            OptimizerSpec(**change).rate(10)


@pytest.mark.parametrize("name", ["adamw", "lion", "muon"])
def test_decay_spares_biases_scales_norms_and_embeddings(parameters, name):
    params, axes = parameters
    spec = dataclasses.replace(FAST, name=name, weight_decay=0.5, warmup=0)
    with_decay = update_of(spec, params, axes)
    without = update_of(dataclasses.replace(spec, weight_decay=0.0), params, axes)
    flat = {parameter_path(p): np.asarray(v) for p, v in jax.tree.leaves_with_path(params)}
    for path, value in flat.items():
        pull = with_decay[path] - without[path]
        if path.endswith("kernel"):
            want = -spec.learning_rate * 0.5 * value
            np.testing.assert_allclose(pull, want, rtol=1e-3, atol=1e-6, err_msg=path)
        else:
            assert (pull == 0).all(), path


def test_frozen_parameters_stay_bitwise_the_same():
    frozen = (r"^blocks/attention", r"embed")
    toy = program("masked", optimizer=dataclasses.replace(FAST, freeze=frozen))
    state = toy.start()
    before = jax.tree.map(np.array, state.params)
    for seed in range(2):
        state, _ = toy.step(state, batch_for("masked", seed=seed))
    for path, value in jax.tree.leaves_with_path(before):
        name, after = parameter_path(path), state.params
        for key in path:
            after = after[key.key]
        same = np.array_equal(np.asarray(after).view(np.uint32), value.view(np.uint32))
        assert same == name.startswith(("blocks/attention", "embed")), name


def test_frozen_parameters_take_no_optimizer_memory(parameters):
    params, axes = parameters
    frozen = dataclasses.replace(FAST, freeze=(".",)).build(10, axes).init(params)
    assert sum(leaf.size for leaf in jax.tree.leaves(frozen)) < 10


def test_a_freeze_pattern_that_matches_nothing_is_refused(parameters):
    _, axes = parameters
    for patterns in (("blokcs",), ("embed", "blokcs")):
        with pytest.raises(UserError, match="blokcs"):
            OptimizerSpec(freeze=patterns).build(10, axes)


def test_gradients_are_clipped_to_the_norm(parameters):
    params, axes = parameters
    # Lion's first update is the sign of the gradient; AdamW with a large eps shows its size.
    spec = dataclasses.replace(FAST, eps=1e6, weight_decay=0.0, warmup=0)
    ones = jax.tree.map(np.ones_like, params)
    norm = float(np.sqrt(sum(leaf.size for leaf in jax.tree.leaves(ones))))
    clipped = update_of(dataclasses.replace(spec, clip_norm=1.0), params, axes)
    free = update_of(dataclasses.replace(spec, clip_norm=0.0), params, axes)
    for path, value in free.items():
        np.testing.assert_allclose(clipped[path] * norm, value, rtol=1e-3, err_msg=path)


@pytest.mark.parametrize("name", ["lion", "muon"])
def test_the_loss_falls(name):
    rate = {"lion": 3e-3, "muon": 2e-2}[name]
    spec = dataclasses.replace(FAST, name=name, learning_rate=rate, freeze=("final_norm",))
    toy = program("next_token", optimizer=spec)
    state, batch, losses = toy.start(), batch_for("next_token"), []
    for _ in range(12):
        state, metrics = toy.step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.3, losses


class TestMuon:
    spec = dataclasses.replace(
        FAST, name="muon", weight_decay=0.0, warmup=0, clip_norm=0.0, learning_rate=1.0
    )

    @pytest.fixture
    def updates(self, parameters):
        params, axes = parameters
        rng = np.random.default_rng(1)
        noise = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
        return update_of(self.spec, params, axes, noise), noise

    @staticmethod
    def singular_values(matrix):
        return np.linalg.svd(matrix, compute_uv=False)

    def check_orthogonal(self, matrix):
        """Newton-Schulz brings singular values to about one size, but for the smallest few."""
        values = self.singular_values(matrix)
        assert np.quantile(values, 0.25) / values.max() > 0.5

    def test_each_layer_is_a_matrix_of_its_own(self, updates):
        made, _ = updates
        for layer in range(2):
            self.check_orthogonal(made["blocks/feedforward/up/kernel"][layer])  # (32, 128)
            self.check_orthogonal(made["blocks/feedforward/down/kernel"][layer])  # (128, 32)
            out = made["blocks/attention/out/kernel"][layer]  # (4, 8, 32): heads are inputs
            self.check_orthogonal(out.reshape(32, 32))

    def test_queries_keys_and_values_are_matrices_of_their_own(self, updates):
        made, noise = updates
        kernel = made["blocks/attention/qkv/kernel"]  # (2, 32, 3, 4, 8)
        for layer in range(2):
            for part in range(3):
                self.check_orthogonal(kernel[layer, :, part].reshape(32, 32))
        # A change of the queries' gradient alone leaves the keys' update as it was.
        model = TINY.build()
        shapes = jax.eval_shape(model.init, jax.random.key(0), None)
        axes = model.axes(shapes)
        changed = jax.tree.map(np.copy, noise)
        changed["blocks"]["attention"]["qkv"]["kernel"][0, :, 0] *= -3.0
        other = update_of(self.spec, noise, axes, changed)["blocks/attention/qkv/kernel"]
        np.testing.assert_allclose(other[:, :, 1:], kernel[:, :, 1:], atol=1e-5)
        np.testing.assert_allclose(other[1], kernel[1], atol=1e-5)

    def test_all_but_matrices_of_the_layers_go_to_adam(self, parameters, updates):
        params, _ = parameters
        made, noise = updates
        adam = optax.nadam(1.0, self.spec.b1, self.spec.b2, self.spec.eps)
        want, _ = adam.update(noise, adam.init(params))
        for path, value in jax.tree.leaves_with_path(want):
            name = parameter_path(path)
            same = np.allclose(made[name], value, atol=1e-3)
            assert same != (name.startswith("blocks") and name.endswith("kernel")), name


def test_the_tree_that_was_given_is_not_changed(parameters):
    params, axes = parameters
    before = jax.tree.map(np.copy, params)
    update_of(FAST, params, axes)
    jax.tree.map(np.testing.assert_array_equal, params, before)
    assert all(isinstance(leaf, np.ndarray | jnp.ndarray) for leaf in jax.tree.leaves(params))
