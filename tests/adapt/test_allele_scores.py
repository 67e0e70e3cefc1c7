import dataclasses

import numpy as np
import pytest
from scored_examples import log_probabilities
from toy_batches import TINY, compiled_once, parameters

from biofm_jax.adapt.allele_scores import allele_scores
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.likelihood import pseudo_log_likelihood
from biofm_jax.adapt.marginals import Marginals
from biofm_jax.data.genome import GenomeData
from biofm_jax.data.tokenizers import KmerTokenizer
from biofm_jax.errors import UserError

SPEC = dataclasses.replace(TINY, vocabulary=KmerTokenizer().vocabulary.size, init_std=0.3)
CAUSAL = dataclasses.replace(SPEC, causal=True)
MASK = KmerTokenizer().vocabulary.mask


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def encoder():
    return Encoder("toy", SPEC, GenomeData(max_tokens=64, segments=3), parameters(SPEC))


@pytest.fixture(scope="module")
def causal():
    return Encoder("toy", CAUSAL, GenomeData(max_tokens=64, segments=3), parameters(CAUSAL))


def bases(length, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def changed(text, place, letter):
    return text[:place] + letter + text[place + 1 :]


def pairs():
    """Two contexts of three alleles each, one of another length, and the reference itself."""
    found = []
    for seed, place in ((0, 31), (1, 40)):
        text = bases(62, seed)
        found += [(text, changed(text, place, c)) for c in "ACGT" if c != text[place]]
    text = bases(40, 2)
    return [*found, (text, changed(text, 7, "A" if text[7] != "A" else "C")), (text, text)]


@pytest.mark.parametrize("masked", [True, False])
def test_marginals_are_those_of_one_wild_type(encoder, masked):
    method = "masked_marginal" if masked else "wild_type_marginal"
    got = allele_scores(encoder, method, pairs())
    want = [Marginals(encoder, wild, masked=masked)([mutant])[0] for wild, mutant in pairs()]
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert got[-1] == 0 and np.std(got[:-1]) > 0.1


def test_a_6mer_is_compared_with_the_6mer_of_the_reference(encoder):
    """By hand: the token that holds the base is masked, and two 6-mers compete for it."""
    wild, mutant = pairs()[0]
    (tokens,) = encoder.tokenize([wild])
    place, names = 1 + 31 // 6, KmerTokenizer().vocabulary.tokens
    ids = [names.index(text[30:36]) for text in (wild, mutant)]
    assert tokens[place] == ids[0]
    shown = tokens.copy()
    shown[place] = MASK
    said = log_probabilities(encoder, shown)[place]
    got = allele_scores(encoder, "masked_marginal", pairs()[:1])
    np.testing.assert_allclose(got, [said[ids[1]] - said[ids[0]]], atol=2e-5)


def test_pseudo_likelihood_of_an_insertion_is_the_slow_form(encoder):
    wild = bases(24, 3)
    mutant = wild[:10] + "ACG" + wild[10:]
    means = []
    for text in (wild, mutant):
        (tokens,) = encoder.tokenize([text])
        said = []
        for place in range(1, len(tokens) - 1):
            shown = tokens.copy()
            shown[place] = MASK
            said.append(log_probabilities(encoder, shown)[place, tokens[place]])
        means.append(np.mean(said))
    got = allele_scores(encoder, "pseudo_perplexity", [(wild, mutant)])
    np.testing.assert_allclose(got, [means[1] - means[0]], atol=2e-5)
    both = pseudo_log_likelihood(encoder, [wild, mutant], mean=True)
    np.testing.assert_allclose(got, both[1] - both[0])


def test_next_token_is_a_difference_of_log_likelihoods(causal):
    want = []
    for pair in pairs():
        sums = []
        for text in pair:
            (tokens,) = causal.tokenize([text])
            said = log_probabilities(causal, tokens)
            sums.append(sum(said[i, tokens[i + 1]] for i in range(len(tokens) - 1)))
        want.append(sums[1] - sums[0])
    np.testing.assert_allclose(allele_scores(causal, "next_token", pairs()), want, atol=1e-4)


def test_other_pairs_do_not_change_a_score(encoder):
    whole = allele_scores(encoder, "masked_marginal", pairs())
    alone = [allele_scores(encoder, "masked_marginal", [pair])[0] for pair in pairs()[::-1]]
    np.testing.assert_allclose(whole, alone[::-1], atol=2e-5)


@pytest.mark.parametrize("mutant", ["ACGTACG", "ACGTANACGTAC"])
def test_tokens_that_do_not_match_are_refused(encoder, mutant):
    """An insertion, and an N that breaks a 6-mer into letters."""
    with pytest.raises(UserError, match="row 7 changes where tokens begin"):
        allele_scores(encoder, "masked_marginal", [("ACGTACACGTAC", mutant)], ids=["row 7"])


def test_a_window_longer_than_a_row(encoder):
    long = bases(600, 0)
    with pytest.raises(UserError, match="text 1 has 102 tokens"):
        allele_scores(encoder, "masked_marginal", [(long, changed(long, 5, "N"))])


def test_no_pairs(encoder):
    assert allele_scores(encoder, "masked_marginal", []).shape == (0,)
