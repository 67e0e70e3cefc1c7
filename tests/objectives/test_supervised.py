import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error
from toy_batches import VOCABULARY, packed

from biofm_jax.models.api import Outputs
from biofm_jax.objectives.supervised import Supervised


def loss_of(kind, outputs, targets, weights):
    batch = packed(rows=outputs.shape[0], slots=outputs.shape[1])
    batch = batch.replace(targets=targets, weights=weights)

    def total(outputs):
        loss = (
            Supervised(kind)
            .build(VOCABULARY)
            .loss(lambda params, batch, rngs: Outputs(logits=outputs), {}, {}, batch, None)
        )
        return loss.total, loss

    (_, loss), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(outputs))
    return loss, np.asarray(gradient)


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    outputs = 3 * rng.normal(size=(6, 4, 2)).astype(np.float32)
    there = rng.random(outputs.shape) < 0.6
    return rng, outputs, there


def check_missing(gradient, there):
    """Missing labels pull at nothing; the others do."""
    assert (gradient[~there] == 0).all() and (gradient[there] != 0).all()


def test_squared_equals_sklearn_with_missing_labels(drawn):
    rng, outputs, there = drawn
    targets = rng.normal(size=outputs.shape).astype(np.float32)
    loss, gradient = loss_of("squared", outputs, targets, there.astype(np.float32))
    want = mean_squared_error(targets[there], outputs[there])
    np.testing.assert_allclose(loss.total / loss.weight, want, rtol=1e-5)
    assert loss.weight == there.sum()
    check_missing(gradient, there)


def test_binary_equals_sklearn_with_missing_labels(drawn):
    rng, outputs, there = drawn
    targets = rng.integers(0, 2, outputs.shape).astype(np.float32)
    loss, gradient = loss_of("binary", outputs, targets, there.astype(np.float32))
    probability = 1 / (1 + np.exp(-outputs[there].astype(np.float64)))
    want = log_loss(targets[there], probability)
    np.testing.assert_allclose(loss.total / loss.weight, want, rtol=1e-5)
    check_missing(gradient, there)


def test_binary_stays_finite_where_the_logit_is_huge():
    outputs = np.array([[[1e4], [-1e4]]], np.float32)
    targets = np.array([[[0.0], [1.0]]], np.float32)
    loss, gradient = loss_of("binary", outputs, targets, np.ones_like(targets))
    assert loss.total == 2e4 and np.isfinite(gradient).all()


def test_softmax_equals_sklearn_with_missing_labels():
    rng = np.random.default_rng(1)
    outputs = rng.normal(size=(6, 4, 5)).astype(np.float32)
    targets = rng.integers(0, 5, (6, 4, 1))
    there = rng.random((6, 4, 1)) < 0.6
    loss, gradient = loss_of(
        "softmax", outputs, targets.astype(np.float32), there.astype(np.float32)
    )
    shares = np.exp(outputs.astype(np.float64))
    shares /= shares.sum(-1, keepdims=True)
    kept = there[..., 0]
    want = log_loss(targets[kept][:, 0], shares[kept], labels=range(5))
    np.testing.assert_allclose(loss.total / loss.weight, want, rtol=1e-5)
    assert loss.weight == kept.sum()
    assert (gradient[~kept] == 0).all()
