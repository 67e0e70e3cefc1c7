"""Denoising: what the encoder is shown, what the decoder must write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import VOCABULARY, packed

from biofm_jax.errors import UserError
from biofm_jax.models.api import Outputs
from biofm_jax.objectives.denoising import Denoising


def seen(spec, batch, seed=0):
    """The batch that the model is applied to, and the loss where its logits are all alike."""
    found = []

    def apply(params, batch, *, rngs):
        found.append(batch)
        return Outputs(logits=jnp.zeros((*batch.tokens.shape, VOCABULARY.size)))

    loss = spec.build(VOCABULARY).loss(apply, {}, {}, batch, jax.random.key(seed))
    return found[0], loss


def test_the_encoder_reads_masks_and_the_decoder_the_whole():
    batch = packed(rows=6)
    given, loss = seen(Denoising(rate=0.25), batch)
    np.testing.assert_array_equal(given.tokens, batch.tokens)
    source = np.asarray(given.source.tokens)
    hidden = source != batch.tokens
    assert np.all(source[hidden] == VOCABULARY.mask)
    regular = np.isin(batch.tokens, VOCABULARY.regular) & (batch.segment_ids > 0)
    np.testing.assert_array_equal(hidden.sum(1), np.round(0.25 * regular.sum(1)))
    np.testing.assert_array_equal(given.source.segment_ids, batch.segment_ids)
    # Each example's tokens but its first are written, the hidden ones and the others.
    examples = (batch.examples >= 0).sum()
    assert float(loss.weight) == (batch.segment_ids > 0).sum() - examples
    np.testing.assert_allclose(loss.total / loss.weight, np.log(VOCABULARY.size), rtol=1e-5)


def test_masks_are_drawn_anew_by_the_key_alone():
    batch = packed(rows=6)
    first, again, other = (seen(Denoising(), batch, seed)[0].source.tokens for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(np.asarray(first) != other)


def test_rates_are_checked():
    with pytest.raises(UserError, match=r"objective\.rate is 0"):
        Denoising(rate=0.0).build(VOCABULARY)
