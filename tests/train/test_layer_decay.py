import jax
import jax.numpy as jnp
import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.train.layer_decay import LayerDecay, scale_by_layer
from biofm_jax.train.optimizer import OptimizerSpec

PARAMS = {
    "embed": {"tokens": jnp.ones((5, 2))},
    "blocks": {"up": {"kernel": jnp.ones((3, 2, 4)), "bias": jnp.ones((3, 4))}},
    "final_norm": {"scale": jnp.ones(2)},
    "head": {"out": {"kernel": jnp.ones((2, 1))}},
}
AXES = jax.tree.map(lambda leaf: (None,) * leaf.ndim, PARAMS)


def test_each_layer_below_learns_slower_by_the_factor():
    transform = scale_by_layer(0.5)
    updates, _ = transform.update(PARAMS, transform.init(PARAMS))
    np.testing.assert_allclose(updates["blocks"]["up"]["bias"][:, 0], [0.125, 0.25, 0.5])
    np.testing.assert_allclose(updates["blocks"]["up"]["kernel"][:, 0, 0], [0.125, 0.25, 0.5])
    np.testing.assert_allclose(updates["embed"]["tokens"], 0.0625)
    np.testing.assert_allclose(updates["final_norm"]["scale"], 1)
    np.testing.assert_allclose(updates["head"]["out"]["kernel"], 1)


def test_a_part_of_the_parameters_is_enough():
    part = {"head": PARAMS["head"], "embed": PARAMS["embed"]}
    updates, _ = scale_by_layer(0.5).update(part, None)
    np.testing.assert_allclose(updates["head"]["out"]["kernel"], 1)


def updated(spec):
    transform = spec.build(10, AXES)
    gradients = jax.tree.map(lambda leaf: leaf * 0.3, PARAMS)
    return transform.update(gradients, transform.init(PARAMS), PARAMS)[0]


def test_the_factor_stands_before_the_optimizers_own_rate():
    options = {"learning_rate": 1e-2, "warmup": 0, "weight_decay": 0.1}
    plain, decayed = (
        updated(spec) for spec in (OptimizerSpec(**options), LayerDecay(**options, layer_decay=0.5))
    )
    kernels = (tree["blocks"]["up"]["kernel"][:, 0, 0] for tree in (decayed, plain))
    np.testing.assert_allclose(np.divide(*kernels), [0.125, 0.25, 0.5], rtol=1e-6)


def test_a_factor_of_one_is_the_plain_optimizer():
    plain, same = updated(OptimizerSpec()), updated(LayerDecay(layer_decay=1.0))
    jax.tree.map(np.testing.assert_array_equal, plain, same)


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.5])
def test_a_factor_out_of_range_is_refused(factor):
    with pytest.raises(UserError, match="must be above 0, at most 1"):
        LayerDecay(layer_decay=factor).build(10, AXES)
