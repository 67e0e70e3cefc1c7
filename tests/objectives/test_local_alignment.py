"""GLoRIA's local similarity against the slow form, word by word."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_batches import FAST_COMPILE
from toy_captions import TEXTS, TOWERS, VOCABULARY, captioned

from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.data.words import word_pieces
from biofm_jax.errors import UserError
from biofm_jax.models.local_towers import LocalTowersSpec
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.alignment import Alignment
from biofm_jax.objectives.contrastive import softmax_loss
from biofm_jax.objectives.local_alignment import LocalAlignment, local_similarity, words_of

SPEC = LocalTowersSpec(TOWERS.first, TOWERS.second, TOWERS.head)
OBJECTIVE = LocalAlignment(longest=5)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def slow(regions, words, attention, sharpness) -> float:
    """One image (m, e) and one text (w, e)."""
    shares = softmax(regions @ words.T, 1)
    looked = softmax(attention * shares, 0)
    total = 0.0
    for w, word in enumerate(words):
        seen = sum(looked[m, w] * regions[m] for m in range(len(regions)))
        cosine = seen @ word / np.linalg.norm(seen) / np.linalg.norm(word)
        total += np.exp(sharpness * cosine)
    return np.log(total)


def test_the_similarity_is_that_of_each_word_and_what_it_sees():
    rng = np.random.default_rng(0)
    regions, words = rng.normal(size=(3, 4, 5)), rng.normal(size=(2, 6, 5))
    spoken = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]], np.float32)
    found = local_similarity(
        jnp.asarray(regions), jnp.asarray(words), jnp.asarray(spoken), attention=4.0, sharpness=5.0
    )
    want = [[slow(r, w[s > 0], 4.0, 5.0) for w, s in zip(words, spoken)] for r in regions]
    np.testing.assert_allclose(found, want, rtol=1e-5)
    nothing = local_similarity(
        jnp.asarray(regions), jnp.asarray(words), jnp.zeros((2, 6)), attention=4.0, sharpness=5.0
    )
    assert np.isfinite(nothing).all()


def test_bytes_become_the_words_between_blanks_and_longer_texts_lose_their_end():
    batch = captioned()
    hidden = jax.nn.one_hot(batch.pair.tokens, VOCABULARY.size)
    inside, begins = word_pieces(VOCABULARY)
    words, spoken = words_of(hidden, batch.pair, jnp.asarray(inside), jnp.asarray(begins), 3)
    for row, text in enumerate(TEXTS):
        parts = text.split()[:3]
        assert spoken[row].tolist() == [1] * len(parts) + [0] * (3 - len(parts))
        for number, part in enumerate(parts):
            want = np.zeros(VOCABULARY.size)
            for byte in part.encode():
                want[VOCABULARY.tokens.index(f"{byte:02x}")] += 1
            np.testing.assert_array_equal(words[row, number], want)
        assert not np.asarray(words[row, len(parts) :]).any()


@pytest.mark.parametrize(
    "tokens, begins",
    [
        (("<pad>", "lung", "##s", "clear"), [False, True, False, True]),
        (("<pad>", "Ġlung", "s", "Ġclear"), [False, True, False, True]),
        (("<pad>", "▁lung", "s", "▁clear"), [False, True, False, True]),
    ],
)
def test_pieces_of_published_tokenizers_make_words(tokens, begins):
    inside, found = word_pieces(Vocabulary.of(tokens))
    assert inside.tolist() == [False, True, True, True] and found.tolist() == begins


@functools.cache
def params():
    return jax.jit(SPEC.build().init, compiler_options=FAST_COMPILE)(jax.random.key(0), None)


@functools.cache
def applied():
    return jax.jit(SPEC.build().apply, compiler_options=FAST_COMPILE)(params(), captioned(rows=8))


def test_regions_are_patches_in_the_shared_space_and_the_loss_is_of_both():
    out, batch = applied(), captioned(rows=8)
    assert out.hidden.shape == (8, 4, 8) and out.pair.hidden.shape == (8, 24, 8)
    objective = OBJECTIVE.build(VOCABULARY)
    found = objective.loss(lambda *_, **options: out, params(), {}, batch, None)
    whole = Alignment().build(VOCABULARY).loss(lambda *_, **options: out, params(), {}, batch, None)
    inside, begins = (jnp.asarray(mask) for mask in word_pieces(VOCABULARY))
    words, spoken = words_of(out.pair.hidden, batch.pair, inside, begins, 5)
    similarity = 10 * np.array(
        [[slow(np.asarray(r), np.asarray(w)[np.asarray(s) > 0], 4.0, 5.0)
          for w, s in zip(words[:6], spoken[:6])] for r in out.hidden[:6]]
    )  # fmt: skip
    six = jax.tree.map(lambda x: x[:6], batch)
    local = softmax_loss(jnp.asarray(similarity), six, {})
    assert found.weight == 6
    np.testing.assert_allclose(found.total, whole.total + local.total, rtol=1e-4)
    np.testing.assert_allclose(found.metrics["local_accuracy"], local.metrics["accuracy"])


def test_parts_of_a_batch_embed_as_the_whole_does_and_pass_their_gradients():
    objective, whole = OBJECTIVE.build(VOCABULARY), captioned(rows=8)
    embed = functools.partial(objective.embed, lambda *_, **options: applied(), params())
    made = embed(whole, None)
    assert all(part.shape[0] == 8 for part in made)
    total, pulls = jax.jit(
        jax.value_and_grad(lambda made: objective.compare(made, whole, {}).total),
        compiler_options=FAST_COMPILE,
    )(made)
    found = objective.loss(lambda *_, **options: applied(), params(), {}, whole, None)
    np.testing.assert_allclose(total, found.total, rtol=1e-6)
    regions, words = np.abs(pulls[-3]).sum((1, 2)), np.abs(pulls[-2]).sum((1, 2))
    assert (regions[:6] > 0).all() and (words[:6] > 0).all()  # the empty rows pull at nothing
    assert not regions[6:].any() and not words[6:].any() and np.isfinite(regions).all()


def test_what_cannot_be_is_named():
    with pytest.raises(UserError, match=r"objective\.local is 0"):
        LocalAlignment(local=0).build(VOCABULARY)
    with pytest.raises(UserError, match="LocalTowersSpec"):
        OBJECTIVE.check(TOWERS, None)
    with pytest.raises(UserError, match="VisionSpec"):
        dataclasses.replace(SPEC, first=TransformerSpec(head=TOWERS.first.head)).build()
