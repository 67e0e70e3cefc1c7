"""Beam search gives the sequences and scores of transformers' own, from the same logits."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from biofm_jax.adapt.beam import Beams, beam_search
from biofm_jax.adapt.sampling import Sampling, tokens_seen
from biofm_jax.errors import UserError

SIZE, CONTEXTS, NEW = 19, 64, 9
CONFIG = transformers.GPT2Config(
    vocab_size=SIZE, n_layer=1, n_head=1, n_embd=4, bos_token_id=0, eos_token_id=1
)
PROMPTS = np.array([[4, 7, 2], [9, 3, 5], [4, 4, 6]], np.int32)


@functools.cache
def table(seed):
    """(CONTEXTS, SIZE) logits by a hash of all tokens so far, so that the past matters."""
    made = np.random.default_rng(seed).normal(0, 1.5, (CONTEXTS, SIZE)).astype(np.float32)
    made[:, 1] += 0.5  # the stop token comes often enough
    return made


def hashed(tokens, start=1):
    """The context's number after some tokens, along the last axis."""
    state = start
    for column in range(tokens.shape[-1]):
        state = (state * 31 + tokens[..., column] * 7 + 3) % CONTEXTS
    return state


class Stub(transformers.PreTrainedModel, transformers.GenerationMixin):
    """A language model that looks its logits up."""

    config_class = transformers.GPT2Config

    def __init__(self, logits):
        super().__init__(CONFIG)
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.logits = torch.tensor(logits)

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, return_dict=True, **_):
        logits = self.logits[hashed(input_ids, torch.ones(len(input_ids), dtype=torch.long))]
        return transformers.modeling_outputs.CausalLMOutput(logits=logits[:, None])


def theirs(seed, width, stop, banned=(), **options):
    out = Stub(table(seed)).generate(
        torch.tensor(PROMPTS, dtype=torch.long),
        num_beams=width,
        num_return_sequences=width,
        max_new_tokens=NEW,
        eos_token_id=list(stop),
        pad_token_id=SIZE - 1,
        suppress_tokens=list(banned) or None,
        do_sample=False,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    sequences = out.sequences[:, PROMPTS.shape[1] :].numpy().reshape(len(PROMPTS), width, -1)
    return sequences, out.sequences_scores.numpy().reshape(len(PROMPTS), width)


def ours(seed, beams, sampling, prompts=PROMPTS):
    logits = jnp.asarray(table(seed))

    def advance(state, tokens, counts):
        state = hashed(tokens, state)
        return state, logits[state]

    state = jnp.asarray(hashed(prompts, np.ones(len(prompts), np.int32)), jnp.int32)
    lengths = np.full(len(prompts), prompts.shape[1], np.int32)
    seen = tokens_seen(prompts, lengths, sampling, SIZE)
    search = jax.jit(
        lambda state, logits: beam_search(
            advance, lambda state, rows: state[rows], state, logits, seen, sampling, beams
        )
    )
    return jax.device_get(search(state, logits[state]))


CASES = {
    "plain": (dict(), (1,)),
    "two_stops": (dict(), (1, 6)),
    "short": (dict(length_penalty=-1.0), (1,)),
    "long": (dict(length_penalty=2.0), (1,)),
    "full": (dict(early_stopping="full"), (1,)),
    "never": (dict(early_stopping="never", length_penalty=0.6), (1,)),
    "canonical": (dict(early_stopping="never", length_penalty=0.0), (1,)),
    "penalty": (dict(), (1,), 1.3, (2, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_sequences_and_scores_are_those_of_transformers(name):
    options, stop, penalty, banned = (*CASES[name], 1.0, ())[:4]
    sampling = Sampling(max_tokens=NEW, stop=stop, repetition_penalty=penalty, banned=banned)
    early = {"full": True, "never": "never", "estimate": False}
    for seed, width in ((0, 3), (1, 2)):
        found = ours(seed, Beams(width, **options), sampling)
        sequences, scores = theirs(
            seed,
            width,
            stop,
            banned,
            length_penalty=options.get("length_penalty", 1.0),
            early_stopping=early[options.get("early_stopping", "estimate")],
            repetition_penalty=penalty,
        )
        np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
        for row, beam in np.ndindex(scores.shape):
            count = found.counts[row, beam]
            np.testing.assert_array_equal(
                found.tokens[row, beam, :count], sequences[row, beam, :count]
            )
            assert (sequences[row, beam, count:] == SIZE - 1).all()
            last = found.tokens[row, beam, count - 1]
            assert found.stopped[row, beam] == (last in stop)
            assert found.stopped[row, beam] or count == NEW
        if penalty == 1.0:
            lengths = found.counts ** options.get("length_penalty", 1.0)
            np.testing.assert_allclose(found.log_likelihood, found.scores * lengths, rtol=1e-5)


def test_a_search_does_not_depend_on_its_neighbours():
    sampling = Sampling(max_tokens=NEW, stop=(1,))
    together = ours(0, Beams(3), sampling)
    for row in range(len(PROMPTS)):
        alone = ours(0, Beams(3), sampling, PROMPTS[row : row + 1])
        there = jax.tree.map(operator.itemgetter(slice(row, row + 1)), together)
        jax.tree.map(np.testing.assert_array_equal, there, alone)


def test_one_beam_is_greedy():
    found = ours(0, Beams(1), Sampling(max_tokens=NEW, stop=(1,)))
    for row, prompt in enumerate(PROMPTS):
        state, said = hashed(prompt), []
        while len(said) < NEW and (not said or said[-1] != 1):
            said.append(int(table(0)[state].argmax()))
            state = hashed(np.array([said[-1]]), state)
        assert found.tokens[row, 0, : found.counts[row, 0]].tolist() == said


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(UserError, match="beams is 0"):
        Beams(0)
    with pytest.raises(UserError, match="too wide for a vocabulary of 19 tokens"):
        ours(0, Beams(10), Sampling(max_tokens=2, stop=(1,)))
