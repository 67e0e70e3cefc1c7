"""The rules of choosing tokens are those of transformers' logits processors."""

import numpy as np
import pytest
import torch
import transformers.generation.logits_process as hf

from biofm_jax.adapt import sampling as rules
from biofm_jax.adapt.sampling import Sampling
from biofm_jax.errors import UserError

ROWS, SIZE = 5, 23


def logits(seed=0):
    return np.random.default_rng(seed).normal(0, 2, (ROWS, SIZE)).astype(np.float32)


def prompts(seed=1):
    return np.random.default_rng(seed).integers(0, SIZE, (ROWS, 6)).astype(np.int32)


def theirs(processors, tokens, scores):
    ids, scores = torch.tensor(tokens, dtype=torch.long), torch.tensor(scores)
    for processor in processors:
        scores = processor(ids, scores)
    return scores.numpy()


def seen_in(tokens, lengths=None):
    lengths = np.full(ROWS, tokens.shape[1], np.int32) if lengths is None else lengths
    return rules.tokens_seen(tokens, lengths, Sampling(repetition_penalty=2.0), SIZE)


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_repetition_penalty(penalty):
    want = theirs([hf.RepetitionPenaltyLogitsProcessor(penalty)], prompts(), logits())
    got = rules.penalise(logits(), seen_in(prompts()), penalty)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert (np.asarray(got) != logits()).any()


def test_a_prompt_is_seen_up_to_its_length_and_new_tokens_are_added():
    tokens = prompts()
    lengths = np.array([0, 1, 3, 6, 2], np.int32)
    got = np.asarray(seen_in(tokens, lengths))
    for row, length in enumerate(lengths):
        assert set(np.flatnonzero(got[row])) == set(tokens[row, :length])
    more = np.array([7, 7, 0, 1, 22], np.int32)
    marked = np.asarray(rules.mark(seen_in(tokens, lengths), more))
    assert marked[np.arange(ROWS), more].all() and (marked.sum(1) - got.sum(1) <= 1).all()


@pytest.mark.parametrize("k", [1, 4, 100])
def test_top_k(k):
    tied = logits()
    tied[:, 3] = tied[:, 9] = np.sort(tied, 1)[:, -4]
    for scores in (logits(), tied):
        want = theirs([hf.TopKLogitsWarper(k)], prompts(), scores)
        np.testing.assert_array_equal(rules.keep_top_k(scores, k), want)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_top_p(p):
    want = theirs([hf.TopPLogitsWarper(p)], prompts(), logits())
    np.testing.assert_array_equal(rules.keep_top_p(logits(), p), want)


def test_all_rules_in_their_order():
    sampling = Sampling(0.7, 9, 0.8, 1.4, banned=(0, 5))
    processors = [
        hf.RepetitionPenaltyLogitsProcessor(1.4),
        hf.SuppressTokensLogitsProcessor([0, 5]),
        hf.TemperatureLogitsWarper(0.7),
        hf.TopKLogitsWarper(9),
        hf.TopPLogitsWarper(0.8),
    ]
    want = theirs(processors, prompts(), logits())
    got = np.asarray(rules.process(logits(), sampling, seen_in(prompts())))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    kept = np.isfinite(got).sum(1)
    assert (kept >= 1).all() and (kept < 9).any()


def test_samples_have_the_distribution_of_the_logits():
    import jax

    draws = 20_000
    row = logits()[0, :6]
    keys = jax.random.split(jax.random.key(3), draws)
    got = rules.choose(np.tile(row, (draws, 1)), Sampling(), keys)
    want = np.exp(row) / np.exp(row).sum()
    share = np.bincount(got, minlength=6) / draws
    assert np.abs(share - want).max() < 4 * np.sqrt(0.25 / draws)
    greedy = rules.choose(np.tile(row, (3, 1)), Sampling(temperature=0), keys[:3])
    assert (np.asarray(greedy) == row.argmax()).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("repetition_penalty", 0.0),
        ("max_tokens", 0),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(UserError, match=f"{field} is {value}; it must be"):
        Sampling(**{field: value})
