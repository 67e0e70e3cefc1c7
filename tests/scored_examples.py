"""Tiny language models of proteins, variants, and what such a model says of one sequence alone."""

import dataclasses
import functools

import jax
import numpy as np
from toy_batches import TINY, parameters

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.batch import Batch
from biofm_jax.data.protein import ProteinData
from biofm_jax.models.embedding import TokenDropout

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
MASKED = dataclasses.replace(TINY, token_dropout=TokenDropout(mask=32), init_std=0.3)
CAUSAL = dataclasses.replace(MASKED, causal=True, token_dropout=None)
MASK = 32


def encoder_of(spec, **data):
    data = ProteinData(**{"max_tokens": 64, "segments": 3} | data)
    return Encoder("toy", spec, data, parameters(spec))


def protein(length, seed):
    return "".join(np.random.default_rng(seed).choice(LETTERS, length))


def mutant(text, places, seed=0):
    rng, letters = np.random.default_rng(seed), list(text)
    for place in places:
        letters[place] = rng.choice([c for c in LETTERS if c != letters[place]])
    return "".join(letters)


@functools.cache
def _apply(spec):
    model = spec.build()
    return jax.jit(lambda params, batch: model.apply(params, batch).logits)


def log_probabilities(encoder, tokens):
    """(t, v) of one sequence alone in a row of its own length, float64."""
    row = np.asarray(tokens, np.int32)[None]
    positions = np.arange(row.shape[1], dtype=np.int32)[None]
    batch = Batch(row, np.ones_like(row), positions, np.zeros((1, 1), np.int32))
    logits = np.asarray(_apply(encoder.spec)(encoder.params, batch)[0], np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
