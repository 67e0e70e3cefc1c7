"""A captioner run token by token behind its images gives the numbers of the full forward pass."""

import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_captions import CAPTIONER, TOKENS, VOCABULARY, captioned

from biofm_jax.errors import UserError
from biofm_jax.models import cache as cached
from biofm_jax.models.caption_writer import CaptionWriterSpec
from biofm_jax.models.positions import Rotary

# Two layers below and one above: what is kept of each must go to its own half.
SPEC = dataclasses.replace(
    CAPTIONER, second=dataclasses.replace(CAPTIONER.second, layers=2, positions=Rotary())
)
WRITER = CaptionWriterSpec(SPEC)
LENGTHS, STEPS = np.array([4, 1, 7], np.int32), 3
SIZE = int(LENGTHS.max()) + STEPS


def jitted(function):
    return jax.jit(function, compiler_options=FAST_COMPILE)


def test_cached_equals_full_and_the_image_is_read_once():
    model = WRITER.build()
    params = jax.device_get(jitted(model.init)(jax.random.key(0), None))
    texts = (
        "a dark left lung",
        "no mass is seen",
        "an enlarged heart",
    )  # as long, in bytes, to SIZE
    batch = captioned(texts)
    tokens = batch.pair.tokens
    images = batch.replace(pair=None)

    def start(params, tokens, lengths, images):
        return cached.prefill(model, params, tokens, lengths, SIZE, images)

    shown = np.where(np.arange(8) < LENGTHS[:, None], tokens[:, :8], 9)
    cache, logits = jitted(start)(params, shown, LENGTHS, images)
    kept = SPEC.decoder.layers, 3, SPEC.queries
    assert cache.source.hidden is None and cache.source.keys_values[0].shape[:3] == kept
    nbytes = sum(leaf.nbytes for leaf in (cache.keys, cache.values, *cache.source.keys_values))
    told = cached.cache_bytes(WRITER, 3, SIZE, SPEC.queries)
    assert nbytes == told and cache.keys.shape[0] == 3
    # What read the image no longer matters.
    later = params | {
        name: jax.tree.map(np.zeros_like, params[name]) for name in ("first", "pooling")
    }
    go_on, found = jitted(lambda *given: cached.extend(model, *given)), [logits]
    for step in range(STEPS):
        here = np.take_along_axis(tokens, LENGTHS[:, None] + step, 1)
        cache, logits = go_on(later, cache, here)
        found.append(logits)
    whole = np.asarray(jitted(SPEC.build().apply)(params, batch).caption)
    columns = LENGTHS[:, None] - 1 + np.arange(1 + STEPS)
    want = np.take_along_axis(whole, columns[:, :, None], 1)
    np.testing.assert_allclose(np.concatenate(found, 1), want, atol=1e-5 * np.abs(want).max())
    # Rows are taken with their images.
    order = np.array([2, 0, 2])
    taken = go_on(later, cached.take_rows(cache, order), tokens[order, 2:3])[1]
    own = go_on(later, cache, tokens[:, 2:3])[1]
    np.testing.assert_allclose(taken, np.asarray(own)[order], rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(own)[0] - np.asarray(own)[2]).max() > 1e-3


def test_what_cannot_be_is_named():
    assert WRITER.vocabulary == VOCABULARY.size and TOKENS >= SIZE
    cached.check_decoder(WRITER, 100)
    many = dataclasses.replace(SPEC, decoder=dataclasses.replace(SPEC.decoder, heads=4))
    with pytest.raises(UserError, match="key_heads is 4 and the second tower's 2"):
        CaptionWriterSpec(many).build()
    with pytest.raises(UserError, match="none as its source"):
        WRITER.build().apply({}, captioned().pair)
    assert WRITER.replaced(remat="full").captioner.decoder.remat == "full"
