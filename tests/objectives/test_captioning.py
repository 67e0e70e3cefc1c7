"""CoCa's two losses: captions depend on the image and never on what comes later."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_captions import CAPTIONER as SPEC
from toy_captions import TEXTS, TOWERS, VOCABULARY, captioned

from biofm_jax.errors import UserError
from biofm_jax.models.positions import Learned
from biofm_jax.objectives.alignment import Alignment
from biofm_jax.objectives.captioning import ContrastiveCaptioning


@functools.cache
def params():
    return jax.jit(SPEC.build().init, compiler_options=FAST_COMPILE)(jax.random.key(0), None)


@functools.cache
def compiled():
    return jax.jit(SPEC.build().apply, compiler_options=FAST_COMPILE)


def apply(params, batch, rngs=None):
    return compiled()(params, batch)


def test_a_token_of_the_caption_sees_the_image_and_what_is_before_it():
    batch, out = captioned(rows=8), apply(params(), captioned(rows=8))
    assert out.caption.shape == (8, 24, VOCABULARY.size) and np.isfinite(out.caption).all()
    tokens = batch.pair.tokens.copy()
    tokens[0, 4:] = 20
    later = apply(params(), batch.replace(pair=batch.pair.replace(tokens=tokens)))
    np.testing.assert_allclose(later.caption[0, :4], out.caption[0, :4], atol=1e-5)
    assert np.abs(later.caption[0, 4:] - out.caption[0, 4:]).max() > 1e-3
    images = batch.images.copy()
    images[0] = 255 - images[0]
    other = apply(params(), batch.replace(images=images))
    assert np.abs(other.caption[0] - out.caption[0])[:5].max() > 1e-3
    np.testing.assert_allclose(other.caption[1:], out.caption[1:], atol=1e-5)
    # The text's vector knows no image, and stands at its last token.
    np.testing.assert_allclose(other.pair.logits, out.pair.logits, atol=1e-6)
    last = (batch.pair.segment_ids > 0).sum(1) - 1
    for row in range(len(TEXTS)):
        np.testing.assert_allclose(
            out.pair.pooled[row, 0], out.pair.hidden[row, last[row]], atol=1e-6
        )


def test_the_loss_is_a_mean_over_pairs_and_twice_a_mean_over_tokens():
    batch, out = captioned(rows=8), apply(params(), captioned(rows=8))
    found = ContrastiveCaptioning().build(VOCABULARY).loss(apply, params(), {}, batch, None)
    pairs = Alignment().build(VOCABULARY).loss(apply, params(), {}, batch, None)
    nats = []
    for row, text in enumerate(TEXTS):
        length = int(batch.pair.segment_ids[row].sum())
        logits = np.asarray(out.caption[row], np.float64)
        for t in range(length - 1):
            nats.append(-jax.nn.log_softmax(logits[t])[batch.pair.tokens[row, t + 1]])
        assert length == min(24, len(text) + 2)
    want = pairs.total / 6 + 2 * np.mean(nats)
    np.testing.assert_allclose(found.total / found.weight, want, rtol=1e-5)
    np.testing.assert_allclose(found.metrics["caption_loss"] / 6, np.mean(nats), rtol=1e-5)


def test_both_losses_pull_at_what_the_towers_and_the_decoder_made():
    objective, batch = ContrastiveCaptioning().build(VOCABULARY), captioned(rows=8)
    made = objective.embed(apply, params(), batch, None)
    assert all(part.shape[0] == 8 for part in made)
    pulls = jax.grad(lambda made: objective.compare(made, batch, {}).total)(made)
    assert np.abs(pulls[0]).sum() > 0 and np.abs(pulls[1]).sum() > 0
    tokens = float(made[-1].sum())
    np.testing.assert_allclose(pulls[-3], np.full(8, 2 * 6 / tokens), rtol=1e-5)


def test_what_cannot_be_is_named():
    text, decoder = SPEC.second, SPEC.decoder
    for change, field in (
        ({"second": dataclasses.replace(text, causal=False)}, "second.causal"),
        ({"second": dataclasses.replace(text, pooling="mean")}, "second.pooling"),
        ({"decoder": dataclasses.replace(decoder, width=32)}, "decoder.width"),
        ({"decoder": dataclasses.replace(decoder, positions=Learned())}, "decoder.positions"),
        ({"decoder": dataclasses.replace(decoder, head=None)}, "decoder.head"),
        ({"queries": 0}, "queries"),
    ):
        with pytest.raises(UserError, match=f"CaptionerSpec.{field}"):
            dataclasses.replace(SPEC, **change).build()
    with pytest.raises(UserError, match="CaptionerSpec"):
        ContrastiveCaptioning().check(TOWERS, None)
    with pytest.raises(UserError, match=r"objective\.caption"):
        ContrastiveCaptioning(0).build(VOCABULARY)
    names = SPEC.build().axes(params())
    assert jax.tree.structure(names, is_leaf=lambda x: isinstance(x, tuple)).num_leaves == len(
        jax.tree.leaves(params())
    )
    jax.tree.map(
        lambda leaf, axes: None if jnp.ndim(leaf) == len(axes) else pytest.fail(str(axes)),
        params(), names,
    )  # fmt: skip
