"""Generation from a whole model: what the cache, the batch and the loop may not change."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from biofm_jax.adapt.beam import Beams
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.generate import generate
from biofm_jax.adapt.likelihood import next_token_log_likelihood
from biofm_jax.adapt.prompts import read_prompts, rules
from biofm_jax.adapt.sampling import choose, process, tokens_seen
from biofm_jax.data.batch import Batch
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.models.dropout import fold, fold_rows_in
from biofm_jax.models.embedding import TokenDropout
from biofm_jax.models.positions import Alibi, Learned, NoPositions, Relative, Rotary
from biofm_jax.models.transformer import TransformerSpec

SPEC = TransformerSpec(layers=2, width=32, heads=4, kv_heads=2, causal=True, init_std=0.3)
POSITIONS = {
    "learned": Learned(maximum=64),
    "rotary": Rotary(),
    "alibi": Alibi(),
    "relative": Relative(buckets=8, distance=16),
    "none": NoPositions(),
}
PROMPTS = ("", "MKT", "GGAVLLK", "")
NEW = 12


def encoder(positions="rotary", **changes):
    spec = dataclasses.replace(SPEC, positions=POSITIONS[positions], **changes)
    return Encoder("toy", spec, ProteinData(max_tokens=64))


def made(model, texts=PROMPTS, sampling=None, **options):
    sampling = sampling or rules(model, max_tokens=NEW)
    prompts = read_prompts(model, texts)
    return [each for batch in generate(model, prompts, sampling, **options) for each in batch]


@functools.cache
def forward(spec):
    model = spec.build()

    @jax.jit
    def run(params, tokens):
        ids = jnp.ones_like(tokens)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
        return model.apply(params, Batch(tokens, ids, positions, ids[:, :1])).logits[0]

    return run


def slow(model, prompt, number, sampling, seed=0, size=32):
    """One sequence without cache or batch: the whole row is read again for every token."""
    params, run = model.params_for(seed), forward(model.spec)
    keys = fold_rows_in(jax.random.key(seed), np.array([number], np.uint32))
    row, total = list(prompt), 0.0
    for step in range(sampling.max_tokens):
        tokens = np.zeros((1, size), np.int32)
        tokens[0, : len(row)] = row
        logits = run(params, tokens)[len(row) - 1][None]
        seen = tokens_seen(tokens, np.array([len(row)], np.int32), sampling, logits.shape[1])
        token = int(choose(process(logits, sampling, seen), sampling, fold(keys, step))[0])
        total += float(jax.nn.log_softmax(logits[0])[token])
        row.append(token)
        if token in sampling.stop:
            break
    return row[len(prompt) :], total


RULES = {
    "greedy": dict(temperature=0.0, repetition_penalty=1.2),
    "sampled": dict(temperature=0.8, top_k=12, top_p=0.95, repetition_penalty=1.1),
}


CASES = [*((positions, "sampled") for positions in POSITIONS), ("rotary", "greedy")]


@pytest.mark.parametrize(("positions", "chosen"), CASES)
def test_cached_equals_uncached(positions, chosen):
    model = encoder(positions)
    sampling = rules(model, stop=("L",), max_tokens=NEW, **RULES[chosen])
    for number, (prompt, (got,)) in enumerate(
        zip(read_prompts(model, PROMPTS), made(model, sampling=sampling), strict=True)
    ):
        tokens, total = slow(model, prompt, number, sampling)
        assert got.tokens.tolist() == tokens
        np.testing.assert_allclose(got.log_likelihood, total, rtol=1e-5)
        assert got.stopped == (tokens[-1] in sampling.stop)


def test_a_sequence_does_not_depend_on_batch_size_neighbours_or_start():
    model = encoder()
    texts = ["", "MK", "GGAVLLK", "", "", "MKV", "A"]

    def tokens(found):
        return [each.tokens.tolist() for (each,) in found]

    want = tokens(made(model, texts, rows=7))
    assert len({tuple(each) for each in want}) == 7
    assert tokens(made(model, texts, rows=2)) == want
    assert tokens(made(model, texts, rows=3, start=1)) == want[3:]
    other = ["MMM", "MK", "GGAVLLK", "", "A", "MKV", "A"]
    changed = tokens(made(model, other, rows=7))
    assert [changed[i] for i in (1, 2, 3, 5, 6)] == [want[i] for i in (1, 2, 3, 5, 6)]
    assert tokens(made(model, texts, rows=7, seed=1)) != want


def test_the_log_likelihood_is_the_models_own():
    model = encoder()
    params = model.params_for(0)
    model = dataclasses.replace(model, params=params)
    sampling = rules(model, max_tokens=40, temperature=0.5, top_k=5, repetition_penalty=1.5)
    found = [each for (each,) in made(model, [""] * 8, sampling)]
    ended = [each for each in found if each.stopped]
    assert ended
    texts = [model.data.tokenizer().decode(each.tokens) for each in ended]
    kept = [i for i, text in enumerate(texts) if text and model.data.clean(text) == text]
    want = next_token_log_likelihood(model, [texts[i] for i in kept])
    np.testing.assert_allclose([ended[i].log_likelihood for i in kept], want, rtol=1e-4)


def test_special_tokens_are_never_chosen_and_length_is_kept():
    model = encoder()
    vocabulary = model.data.tokenizer().vocabulary
    for (each,) in made(model, [""] * 30, rules(model, max_tokens=NEW, temperature=5.0)):
        inside = each.tokens[:-1] if each.stopped else each.tokens
        assert not set(inside.tolist()) & set(vocabulary.special)
        assert len(each.tokens) == NEW or each.stopped
        assert each.stopped == (each.tokens[-1] == vocabulary.eos)


def test_beams_with_the_cache_are_what_the_full_forward_says():
    """Each score is the log-probability that a full pass gives, and the first beats greedy's."""
    model = encoder("relative")
    sampling = rules(model, max_tokens=6)
    found = made(model, sampling=sampling, beams=Beams(4, length_penalty=0.0))
    greedy = made(model, sampling=dataclasses.replace(sampling, temperature=0.0))
    params, run = model.params_for(0), forward(model.spec)
    for prompt, several, (first,) in zip(read_prompts(model, PROMPTS), found, greedy, strict=True):
        assert len(several) == 4
        scores = [each.score for each in several]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] >= first.log_likelihood - 1e-4
        for each in several:
            row = np.zeros((1, 32), np.int32)
            tokens = np.concatenate([prompt, each.tokens])
            row[0, : len(tokens)] = tokens
            said = np.asarray(jax.nn.log_softmax(run(params, row)))
            at = np.arange(len(prompt), len(tokens))
            want = said[at - 1, tokens[at]].sum()
            np.testing.assert_allclose(each.log_likelihood, want, rtol=1e-5)
            np.testing.assert_allclose(each.score, want, rtol=1e-5)


def test_bfloat16_generates():
    model = encoder(dtype="bfloat16")
    assert all(len(each.tokens) for (each,) in made(model))


def test_bad_prompts_and_models_are_refused():
    model = encoder()
    with pytest.raises(UserError, match="prompt 2, 'MK7': token 3 is unknown"):
        read_prompts(model, ["M", "MK7"])
    with pytest.raises(UserError, match="'LL' is not one token"):
        rules(model, stop=("LL",))
    with pytest.raises(UserError, match="is an encoder"):
        made(encoder(causal=False))
    with pytest.raises(UserError, match=r"come to 70 tokens.*positions.maximum=64"):
        made(encoder("learned"), ["M" * 57])
    masked = encoder(token_dropout=TokenDropout())
    with pytest.raises(UserError, match="holds a mask token"):
        next(generate(masked, [np.array([0, 32], np.int32)], rules(masked)))


def test_an_empty_prompt_needs_a_token_to_begin_with():
    @dataclasses.dataclass(frozen=True)
    class NoStart(ProteinData):
        def tokenizer(self):
            whole = super().tokenizer()
            vocabulary = dataclasses.replace(whole.vocabulary, cls=-1)
            return dataclasses.replace(whole, vocabulary=vocabulary)

    model = dataclasses.replace(encoder(), data=NoStart(max_tokens=64))
    with pytest.raises(UserError, match="prompt 1 is empty"):
        read_prompts(model, [""])
    assert len(read_prompts(model, ["MK"])[0]) == 2
