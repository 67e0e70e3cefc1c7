"""Linear attention: its two forms, packed examples, redrawn features, and what never trains."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformer_examples import jit, jitted_apply, pack, sequences, variant

from biofm_jax.errors import UserError
from biofm_jax.models.linear_attention import (
    LinearAttention,
    linear_attention,
    orthogonal_features,
    reference_linear_attention,
)
from biofm_jax.train.optimizer import OptimizerSpec

SPEC = variant(layers=2, token_dropout=None, linear=LinearAttention(features=6))


@functools.cache
def parameters():
    """Initial parameters of SPEC."""
    return jit(lambda key: SPEC.build().init(key, None))(jax.random.key(0))


def close(ours, theirs, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


def test_sums_of_examples_equal_pair_by_pair_with_their_gradients():
    rng = np.random.default_rng(0)
    # So long that the sums of three examples are the cheaper form.
    q, k, v = rng.normal(size=(3, 2, 40, 2, 4)).astype(np.float32)
    segments = np.repeat([[1, 1, 1, 2, 3, 3, 0, 0], [1, 2, 2, 2, 2, 2, 2, 2]], 5, axis=1)
    features = orthogonal_features(jax.random.key(0), (4, 6))
    weight = rng.normal(size=q.shape).astype(np.float32) * (segments > 0)[:, :, None, None]

    def both(form):
        return jit(jax.value_and_grad(lambda *x: jnp.sum(form(*x) * weight), (0, 1, 2)))(q, k, v)

    def short(q, k, v):
        options = dict(epsilon=1e-6, examples=3)
        return linear_attention(q, k, v, segments.astype(np.int32), features, **options)

    def pairs(q, k, v):
        return reference_linear_attention(q, k, v, segments, features, epsilon=1e-6)[0]

    assert "40,40" not in str(jax.make_jaxpr(short)(q, k, v))
    assert "40,40" in str(jax.make_jaxpr(pairs)(q, k, v))
    close(short(q, k, v), pairs(q, k, v))
    close(both(short), both(pairs), atol=1e-3)


def test_the_definition_by_hand():
    features = jnp.asarray([[1.0, -1.0]])
    q, k, v = (jnp.asarray(x, jnp.float32).reshape(1, 3, 1, 1) for x in ([2, -1, 1], [1, 3, -2],
                                                                       [5, 7, 9]))  # fmt: skip
    segments = jnp.ones((1, 3), jnp.int32)
    out, weights = reference_linear_attention(q, k, v, segments, features, epsilon=1e-6)
    # relu(x), relu(-x): a positive query sees positive keys, by their size.
    expected = [(1 * 5 + 3 * 7) / 4, 9.0, (1 * 5 + 3 * 7) / 4]
    np.testing.assert_allclose(out[0, :, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(weights[0, 0, 0], [0.25, 0.75, 0.0], rtol=1e-6)


def test_features_are_orthogonal_in_blocks_and_normal_at_large():
    features = np.asarray(orthogonal_features(jax.random.key(1), (8, 20)))
    assert features.shape == (8, 20)
    products = features[:, :8].T @ features[:, :8]
    np.testing.assert_allclose(products - np.diag(np.diag(products)), 0.0, atol=1e-5)
    many = np.asarray(jax.vmap(lambda k: orthogonal_features(k, (8, 8)))(
        jax.random.split(jax.random.key(2), 2000)))  # fmt: skip
    assert abs(many.var() - 1.0) < 0.02 and abs(many.mean()) < 0.02


@pytest.mark.parametrize("slots, length", [(3, 32), (3, 64)], ids=["pairs", "sums"])
def test_packed_equals_alone_in_either_form(slots, length):
    examples = first, second, third, _ = sequences()
    params = parameters()
    apply = jitted_apply(SPEC)
    packed = apply(params, pack([[first, second, third]], length, slots), None)
    alone = apply(params, pack([[e] for e in examples], 20, 1), None)
    start = 0
    for slot, example in enumerate((first, second, third)):
        part = slice(start, start + len(example))
        close(packed.logits[0, part], alone.logits[slot, : len(example)])
        close(packed.pooled[0, slot], alone.pooled[slot, 0])
        start = part.stop
    assert np.isfinite(packed.hidden).all()


def test_attentions_are_those_of_the_run():
    params, batch = parameters(), pack([sequences()], 50, 4)
    out = jitted_apply(SPEC, collect=("attentions",))(params, batch, None)
    close(out.hidden, jitted_apply(SPEC)(params, batch, None).hidden)
    sums = np.asarray(out.attentions.sum(-1))
    assert np.all(np.isclose(sums, 1.0, atol=1e-5) | (sums == 0.0))
    other = batch.segment_ids[:, :, None] != batch.segment_ids[:, None, :]
    assert np.all(np.asarray(out.attentions)[:, :, 0][:, other] == 0.0)


def test_training_draws_features_by_step_alike_in_microbatches_loops_and_remat():
    params = parameters()
    batch = pack([[e] for e in sequences()], 32, 1)
    train, key = jitted_apply(SPEC, train=True), jax.random.key(5)
    whole = train(params, batch, key)
    halves = [train(params, jax.tree.map(lambda x: x[part], batch), key)  # noqa: B023
              for part in (slice(0, 2), slice(2, 4))]  # fmt: skip
    close(whole, jax.tree.map(lambda *x: jnp.concatenate(x), *halves))
    looped = dataclasses.replace(SPEC, scan=False, remat="full")
    close(whole, jitted_apply(looped, train=True)(params, batch, key))
    still = jitted_apply(SPEC)(params, batch, None)
    for other in (train(params, batch, jax.random.key(6)), still):
        assert not np.allclose(whole.pooled, other.pooled, atol=1e-3)
    fixed = dataclasses.replace(SPEC, linear=LinearAttention(features=6, redraw=False))
    close(still, jitted_apply(fixed, train=True)(params, batch, None))
    with pytest.raises(UserError, match="rngs=key"):
        train(params, batch, None)


@pytest.mark.parametrize("name", ["adamw", "lion", "muon"])
def test_no_optimizer_changes_the_features(name):
    params = parameters()
    gradients = jax.tree.map(jnp.ones_like, params)
    optimizer = OptimizerSpec(name=name, weight_decay=0.5, warmup=0, no_decay=())
    update = optimizer.build(10, SPEC.build().axes(params))
    changes, _ = update.update(gradients, update.init(params), params)
    flat = {str(path): leaf for path, leaf in jax.tree.leaves_with_path(changes)}
    for path, change in flat.items():
        assert np.any(np.asarray(change)) != ("random_features" in path), path
    assert params["blocks"]["attention"]["random_features"].shape == (2, 4, 6)


@pytest.mark.parametrize("changes, field", [
    (dict(causal=True), "causal"),
    (dict(window=3), "window"),
    (dict(kv_heads=2), "kv_heads"),
    (dict(attention_dropout=0.1), "attention_dropout"),
    (dict(backend="cudnn"), "backend"),
    (dict(linear=LinearAttention(features=0)), "linear.features"),
])  # fmt: skip
def test_what_it_lacks_is_refused(changes, field):
    with pytest.raises(UserError, match=f"TransformerSpec.{field} "):
        dataclasses.replace(SPEC, **changes).build()
