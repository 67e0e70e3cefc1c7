"""Generation from an encoder-decoder: the cache, the batch and the loop change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from biofm_jax.adapt.beam import Beams
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.generate import generate
from biofm_jax.adapt.likelihood import next_token_log_likelihood
from biofm_jax.adapt.prompts import read_prompts, rules
from biofm_jax.data.batch import Batch
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.positions import Learned, Relative
from biofm_jax.models.transformer import TransformerSpec

STACK = dict(layers=1, width=32, heads=4, init_std=0.4, positions=Relative(8, 16))
SPEC = EncoderDecoderSpec(
    encoder=TransformerSpec(head=None, **STACK), decoder=TransformerSpec(causal=True, **STACK)
)
MODEL = Encoder("toy", SPEC, ProteinData(max_tokens=64))
PROMPTS = read_prompts(MODEL, ("", "MKT", ""))
SOURCES = MODEL.tokenize(("MKTAYIAKQR", "GG", "LLVWDEEKRSTPPAC"))
NEW = 8


def written(prompts=PROMPTS, sources=SOURCES, beams=None, **options):
    batches = generate(
        MODEL, prompts, rules(MODEL, temperature=0.0, max_tokens=NEW), beams, sources=sources,
        **options,
    )  # fmt: skip
    return [each for batch in batches for each in batch]


def row(tokens, size) -> Batch:
    """One sequence in a row of `size`."""
    ids = np.arange(size, dtype=np.int32)[None]
    there = (ids < len(tokens)).astype(np.int32)
    padded = np.zeros((1, size), np.int32)
    padded[0, : len(tokens)] = tokens
    return Batch(padded, there, ids, ids[:, :1])


@pytest.fixture(scope="module")
def together():
    return written()


def test_greedy_is_what_the_full_forward_pass_says(together):
    """Also: the last prompt differs from the first in its source alone."""
    model, params = SPEC.build(), MODEL.params_for(0)
    run = jax.jit(lambda batch: jax.nn.log_softmax(model.apply(params, batch).logits[0]))
    banned = np.array(rules(MODEL).banned)
    for prompt, source, (ours,) in zip(PROMPTS, SOURCES, together, strict=True):
        tokens, total = list(prompt), 0.0
        for token in ours.tokens:
            scores = run(row(tokens, 16).replace(source=row(source, 24)))[len(tokens) - 1]
            assert int(jnp.argmax(scores.at[banned].set(-jnp.inf))) == token
            tokens.append(token)
            total += float(scores[token])
        assert ours.log_likelihood == pytest.approx(total, rel=1e-4)
    first, last = together[0][0].tokens, together[2][0].tokens
    assert not np.array_equal(first, last)


def test_a_sequence_does_not_depend_on_its_batch(together):
    for number, alone in enumerate(written(rows=1)):
        np.testing.assert_array_equal(alone[0].tokens, together[number][0].tokens)


def test_a_search_keeps_each_beam_with_its_source(together):
    found = written(beams=Beams(2))
    for (greedy,), beams in zip(together, found, strict=True):
        assert len(beams) == 2
        # A search of two finds at least what the greedy choice finds.
        if greedy.stopped == beams[0].stopped and len(greedy.tokens) == len(beams[0].tokens):
            assert beams[0].log_likelihood >= greedy.log_likelihood - 1e-4
    for number in range(len(PROMPTS)):
        alone = written(PROMPTS[number : number + 1], SOURCES[number : number + 1], Beams(2))[0]
        for ours, theirs in zip(alone, found[number], strict=True):
            np.testing.assert_array_equal(ours.tokens, theirs.tokens)


def test_embeddings_are_the_encoders():
    texts = ("MKTAYIAKQR", "GG")
    params = MODEL.params_for(0)
    trained = dataclasses.replace(MODEL, params=params)
    whole = trained.features(0)(texts)
    alone = {**params["encoder"], "embed": params["embed"]}
    encoder = Encoder("alone", SPEC.encoder, MODEL.data, alone)
    np.testing.assert_array_equal(whole, encoder.features(0)(texts))
    np.testing.assert_array_equal(whole, trained.reader().features(0)(texts))
    with pytest.raises(UserError, match="zero-shot scores need a model of one stack"):
        next_token_log_likelihood(trained, texts)


def test_sources_that_are_missing_or_unread():
    sampling = rules(MODEL, max_tokens=NEW)
    plain = Encoder("plain", SPEC.decoder, MODEL.data)
    short = SPEC.replaced(positions=Learned(maximum=14))
    cramped = dataclasses.replace(MODEL, spec=short)
    for model, sources, words in (
        (MODEL, None, "writes from sources: give it some to read"),
        (plain, SOURCES, "no encoder to read sources"),
        (MODEL, SOURCES[:2], "2 sources for 3 prompts"),
        (MODEL, [*SOURCES[:2], SOURCES[0][:0]], "a source is empty"),
        (cramped, SOURCES, "17 tokens, and the encoder of toy has 14 positions"),
    ):
        with pytest.raises(UserError, match=words):
            next(generate(model, PROMPTS, sampling, sources=sources))
