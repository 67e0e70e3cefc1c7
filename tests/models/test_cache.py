"""A causal model run token by token gives the numbers of the full forward pass."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformer_examples import FAST_COMPILE, POSITIONS, jitted_apply, pack, variant

from biofm_jax.errors import UserError
from biofm_jax.models import cache as cached
from biofm_jax.models.embedding import TokenDropout
from biofm_jax.models.heads import LanguageHead, PredictionHead
from biofm_jax.models.positions import Learned

LENGTHS = np.array([5, 1, 8], np.int32)
TOTAL = 14
SIZE = 16
KINDS = {
    **{name: dict(positions=positions) for name, positions in POSITIONS.items()},
    "grouped_window": dict(kv_heads=2, window=3),
    "relative_window": dict(positions=POSITIONS["relative"], window=4, kv_heads=1),
    "post_rms_gated": dict(norm_position="post", norm="rms", gated=True, activation="silu"),
    "parallel_shared": dict(parallel="shared", positions=POSITIONS["rotary_interleaved_half"]),
    "parallel_separate": dict(parallel="separate", kv_heads=2, positions=POSITIONS["alibi"]),
    "qk_norm_head": dict(qk_norm="head", layer_scale=0.5, residual_scale=0.7),
    "qk_norm_width": dict(qk_norm="width", head_width=6, attention_scale=0.3),
    "embedded": dict(embedding_norm=True, token_types=2, embedding_scale=4.0, remat="full"),
    "loop": dict(scan=False, final_norm=False, head=LanguageHead(tied=False), remat="attention"),
    "token_dropout": dict(token_dropout=TokenDropout(mask=3, ratio=0.12)),
}
CHUNKED = {"learned", "relative_window", "parallel_separate"}


def decoder(**changes):
    return variant(**{"causal": True, "layers": 2, "token_dropout": None, **changes})


def parameters(spec):
    """Random parameters with norms away from 1 and biases from 0."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        offset = float(path[-1].key == "scale")
        return jnp.asarray(offset + 0.3 * rng.normal(size=leaf.shape), jnp.float32)

    shapes = jax.eval_shape(lambda: spec.build().init(jax.random.key(0), None))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def texts(seed=0):
    """(rows, TOTAL) tokens without the mask, 3."""
    return np.random.default_rng(seed).integers(4, 16, (len(LENGTHS), TOTAL)).astype(np.int32)


def full(spec, params, tokens):
    """(rows, t, v) logits of the whole rows at once."""
    batch = pack([[row] for row in tokens], tokens.shape[1], 1)
    return np.asarray(jitted_apply(spec)(params, batch, None).logits)


def programs(spec):
    model = spec.build()

    def start(params, tokens, lengths):
        return cached.prefill(model, params, tokens, lengths, SIZE)

    def go_on(params, cache, tokens):
        return cached.extend(model, params, cache, tokens)

    return (jax.jit(each, compiler_options=FAST_COMPILE) for each in (start, go_on))


def stepwise(spec, params, tokens, lengths=LENGTHS, chunk=1, steps=6):
    """(rows, 1 + steps, v) logits behind each row's prompt and the `steps` tokens after it."""
    start, go_on = programs(spec)
    width = int(lengths.max())
    shown = np.where(np.arange(width) < lengths[:, None], tokens[:, :width], 9)
    cache, logits = start(params, shown, lengths)
    found = [logits]
    for step in range(0, steps, chunk):
        columns = lengths[:, None] + np.arange(step, step + chunk)
        cache, logits = go_on(params, cache, np.take_along_axis(tokens, columns, 1))
        found.append(logits)
    np.testing.assert_array_equal(cache.lengths, lengths + steps)
    return np.concatenate(found, 1)


def expected(spec, params, tokens, steps=6):
    columns = LENGTHS[:, None] - 1 + np.arange(1 + steps)
    return np.take_along_axis(full(spec, params, tokens), columns[:, :, None], 1)


@pytest.mark.parametrize("name", KINDS)
def test_cached_equals_full(name):
    spec = decoder(**KINDS[name])
    params, tokens = parameters(spec), texts()
    want = expected(spec, params, tokens)
    close = dict(rtol=1e-5, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(stepwise(spec, params, tokens), want, **close)
    if name in CHUNKED:
        np.testing.assert_allclose(stepwise(spec, params, tokens, chunk=3), want, **close)


def test_bfloat16_is_near_and_keeps_its_cache_in_bfloat16():
    spec = decoder(dtype="bfloat16")
    params, tokens = parameters(spec), texts()
    want = expected(spec, params, tokens)
    got = stepwise(spec, params, tokens)
    assert got.dtype == np.float32
    assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)
    cast = cached.stored(spec, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(cast)} == {jnp.dtype("bfloat16")}
    np.testing.assert_array_equal(stepwise(spec, cast, tokens), got)
    start, _ = programs(spec)
    cache, _ = start(params, tokens[:, :8], LENGTHS)
    assert cache.keys.dtype == cache.values.dtype == jnp.bfloat16 and cache.size == SIZE


def test_a_row_does_not_depend_on_its_neighbours():
    spec = decoder(positions=POSITIONS["relative"])
    params, tokens = parameters(spec), texts()
    other = texts(seed=1)
    other[1] = tokens[1]
    ours = stepwise(spec, params, tokens)[1]
    np.testing.assert_array_equal(stepwise(spec, params, other)[1], ours)
    alone = stepwise(spec, params, tokens[1:2], LENGTHS[1:2])[0]
    np.testing.assert_allclose(alone, ours, rtol=1e-5, atol=1e-5)


def test_a_row_that_keeps_nothing_stays_as_it_is():
    spec = decoder()
    params, tokens = parameters(spec), texts()
    start, go_on = programs(spec)
    cache, _ = start(params, tokens[:, :8], LENGTHS)
    model = spec.build()
    counts = np.array([1, 0, 1], np.int32)
    held, _ = cached.extend(model, params, cache, tokens[:, :1], counts)
    np.testing.assert_array_equal(held.lengths, [6, 1, 9])
    _, want = go_on(params, cache, tokens[:, 2:3])
    _, got = go_on(params, held, tokens[:, 2:3])
    np.testing.assert_array_equal(got[1], want[1])
    assert np.abs(got[0] - want[0]).max() > 1e-3


def test_rows_are_taken_with_what_they_have_read():
    spec = decoder()
    params, tokens = parameters(spec), texts()
    start, go_on = programs(spec)
    cache, _ = start(params, tokens[:, :8], LENGTHS)
    order = np.array([2, 2, 0])
    _, want = go_on(params, cache, tokens[:, 2:3])
    _, got = go_on(params, cached.take_rows(cache, order), tokens[order, 2:3])
    np.testing.assert_allclose(got, np.asarray(want)[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (decoder(causal=False), "is an encoder"),
        (decoder(head=PredictionHead(1)), "no language head"),
        (decoder(positions=Learned(maximum=8)), "positions.maximum=8"),
    ],
)
def test_what_cannot_generate_says_why(spec, words):
    with pytest.raises(UserError, match=words):
        cached.check_decoder(spec, 9)
    cached.check_decoder(dataclasses.replace(decoder(), positions=Learned(maximum=9)), 9)
