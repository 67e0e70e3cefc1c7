import jax
import jax.numpy as jnp
import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.interpret.gradients import (
    gradient_times_input,
    integrated_gradients,
    points_inside,
    saliency,
    smooth_grad,
)

RNG = np.random.default_rng(0)


def test_of_a_linear_output_each_weight_times_its_change():
    weights, x, baseline = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    found, gap = integrated_gradients(lambda z: (z * weights).sum(), x, baseline, steps=2)
    np.testing.assert_allclose(found, weights * (x - baseline), rtol=1e-5, atol=1e-6)
    assert abs(gap) < 1e-5


def test_of_a_product_each_factor_gets_half():
    """f = x y from (0, 0): by symmetry the two share the output."""
    found, _ = integrated_gradients(lambda z: z[0] * z[1], np.array([3.0, 4.0]), np.zeros(2))
    np.testing.assert_allclose(found, [6.0, 6.0], rtol=1e-5)


def test_what_the_output_ignores_gets_nothing():
    found, _ = integrated_gradients(lambda z: jnp.tanh(z[0]) ** 2, np.ones(3), np.zeros(3))
    np.testing.assert_array_equal(found[1:], 0)


def test_attributions_are_complete_or_refused():
    def steep(z):
        return jax.nn.sigmoid(80 * (z.sum() - 0.5))

    _, gap = integrated_gradients(steep, np.array([0.6, 0.6]), np.zeros(2), steps=128)
    assert abs(gap) < 0.02
    with pytest.raises(UserError, match=r"with 2 steps .* give more steps"):
        integrated_gradients(steep, np.array([0.6, 0.6]), np.zeros(2), steps=2)


KERNEL = jnp.ones((3, 3, 1, 1)) / 9


def blob_score(image):
    """A detector of brightness around (5, 12), through a convolution."""
    smooth = jax.lax.conv_general_dilated(
        image[None], KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(smooth[0, 5, 12, 0])


@pytest.mark.parametrize("method", [saliency, smooth_grad])
def test_saliency_points_at_what_the_score_reads(method):
    image = RNG.random((16, 20, 1)).astype(np.float32)
    found = method(blob_score, image)
    mask = np.zeros((16, 20), bool)
    mask[4:7, 11:14] = True
    assert found.shape == (16, 20)
    assert (found[mask] > 0).all() and not found[~mask].any()
    assert points_inside(found, mask) and not points_inside(found, ~mask)


def test_smooth_grad_follows_its_seed_and_leaves_linear_scores_alone():
    image = RNG.random((6, 6, 3)).astype(np.float32)
    weights = jnp.asarray(RNG.normal(size=image.shape), jnp.float32)
    linear = smooth_grad(lambda z: (z * weights).sum(), image)
    np.testing.assert_allclose(linear, np.abs(weights).max(-1), rtol=1e-4)
    curved = [smooth_grad(lambda z: (z**3).sum(), image, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(curved[0], curved[1])
    assert np.abs(curved[0] - curved[2]).max() > 1e-3


def test_gradient_times_input_of_a_linear_score_adds_up_to_it():
    image = RNG.random((6, 5, 3)).astype(np.float32)
    weights = jnp.asarray(RNG.normal(size=image.shape), jnp.float32)
    found = gradient_times_input(lambda z: (z * weights).sum(), image)
    assert found.sum() == pytest.approx(float((image * weights).sum()), rel=1e-4)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(UserError, match="mask of"):
        points_inside(np.zeros((4, 4)), np.zeros((4, 5), bool))
