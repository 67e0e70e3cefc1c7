"""A decoder run token by token behind its encoder gives the numbers of the full forward pass."""

import jax
import numpy as np
import pytest
from pair_examples import KINDS, T5_LIKE, packed_pair, pair, parameters, texts
from transformer_examples import FAST_COMPILE, jitted_apply

from biofm_jax.errors import UserError
from biofm_jax.models import cache as cached

LENGTHS = np.array([5, 1, 8], np.int32)
STEPS, SIZE = 4, 13
SOURCES, TARGETS = texts((20, 7, 12)), texts((SIZE,) * 3, seed=1)
TOKENS = np.stack(TARGETS)


def source_of(texts, width=20):
    return packed_pair([[e] for e in texts], [[]] * len(texts), (width, 1), 1).source


def programs(spec):
    model = spec.build()

    def start(params, tokens, lengths, source):
        return cached.prefill(model, params, tokens, lengths, SIZE, source)

    def go_on(params, cache, tokens):
        return cached.extend(model, params, cache, tokens)

    return (jax.jit(each, compiler_options=FAST_COMPILE) for each in (start, go_on))


def full(spec, params):
    """(rows, 1 + STEPS, v) logits behind each prompt, of whole rows at once."""
    batch = packed_pair([[e] for e in SOURCES], [[e] for e in TARGETS], (20, SIZE), 1)
    logits = np.asarray(jitted_apply(spec)(params, batch, None).logits)
    columns = LENGTHS[:, None] - 1 + np.arange(1 + STEPS)
    return np.take_along_axis(logits, columns[:, :, None], 1)


@pytest.mark.parametrize("name", KINDS)
def test_cached_equals_full_and_the_encoder_runs_once(name):
    spec = pair(layers=(2, 2), remat="full", **KINDS[name])
    params = parameters(spec)
    start, go_on = programs(spec)
    shown = np.where(np.arange(8) < LENGTHS[:, None], TOKENS[:, :8], 9)
    cache, logits = start(params, shown, LENGTHS, source_of(SOURCES))
    assert cache.source.hidden is None and cache.source.keys_values[0].shape[:3] == (2, 3, 20)
    found = [logits]
    # What the encoder's parameters are no longer matters, nor those that make keys and values.
    later = {**params, "encoder": jax.tree.map(np.zeros_like, params["encoder"])}
    cross = later["decoder"]["blocks"]["cross_attention"]
    cross = {**cross, "kv": jax.tree.map(np.zeros_like, cross["kv"])}
    blocks = {**later["decoder"]["blocks"], "cross_attention": cross}
    later["decoder"] = {**later["decoder"], "blocks": blocks}
    for step in range(STEPS):
        cache, logits = go_on(later, cache, np.take_along_axis(TOKENS, LENGTHS[:, None] + step, 1))
        found.append(logits)
    want = full(spec, params)
    np.testing.assert_allclose(np.concatenate(found, 1), want, atol=1e-5 * np.abs(want).max())


def test_rows_are_taken_with_their_source():
    spec = pair(layers=(1, 1), **T5_LIKE)
    params = parameters(spec)
    start, go_on = programs(spec)
    cache, _ = start(params, TOKENS[:, :8], LENGTHS, source_of(SOURCES))
    order = np.array([2, 0, 2])
    _, want = go_on(params, cache, TOKENS[:, 2:3])
    _, got = go_on(params, cached.take_rows(cache, order), TOKENS[order, 2:3])
    np.testing.assert_allclose(got, np.asarray(want)[order], rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(want)[0] - np.asarray(want)[2]).max() > 1e-3


def test_parameters_are_stored_in_the_compute_type_but_for_the_relative_table():
    spec = pair(layers=(1, 1), dtype="bfloat16", **T5_LIKE)
    cast = cached.stored(spec, parameters(spec))
    assert cast["decoder"]["relative"].dtype == np.float32
    assert cast["decoder"]["blocks"]["cross_attention"]["q"]["kernel"].dtype == "bfloat16"


def test_a_prompt_without_a_source_is_an_error():
    spec = pair(layers=(1, 1), **T5_LIKE)
    with pytest.raises(UserError, match="has no source"):
        jax.eval_shape(
            lambda: cached.prefill(spec.build(), parameters(spec), TOKENS[:, :8], LENGTHS, SIZE)
        )
