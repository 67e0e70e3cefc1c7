import dataclasses
import functools

import numpy as np
import pytest
from scored_examples import CAUSAL, MASK, MASKED, encoder_of, log_probabilities, mutant, protein
from toy_batches import compiled_once

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.likelihood import (
    next_token_log_likelihood,
    pseudo_log_likelihood,
    pseudo_perplexity,
)
from biofm_jax.adapt.marginals import Marginals
from biofm_jax.adapt.zero_shot import zero_shot_adapter
from biofm_jax.errors import UserError
from biofm_jax.models.heads import LanguageHead, ProjectionHead


def marginals(encoder, texts, wild_type, masked=True, **given):
    return Marginals(encoder, wild_type, masked=masked)(texts, **given)


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def encoder():
    return encoder_of(MASKED)


@pytest.fixture(scope="module")
def causal():
    return encoder_of(CAUSAL)


WILD = protein(17, seed=1)
VARIANTS = [
    mutant(WILD, [0], 1),
    mutant(WILD, [16], 2),
    mutant(WILD, [5], 3),
    mutant(WILD, [5], 4),
    mutant(WILD, [5, 9], 5),
    mutant(WILD, [9, 5], 6),
    WILD,
    mutant(WILD, [2, 3, 11], 7),
]


def one_by_one(encoder, variant, masked):
    wild, tokens = encoder.tokenize([WILD, variant])
    shown, places = wild.copy(), np.flatnonzero(wild != tokens)
    if masked:
        shown[places] = MASK
    said = log_probabilities(encoder, shown)
    return sum(said[i, tokens[i]] - said[i, wild[i]] for i in places)


@pytest.mark.parametrize("masked", [True, False])
def test_marginals_equal_one_context_at_a_time(encoder, masked):
    got = marginals(encoder, VARIANTS, WILD, masked=masked)
    want = [one_by_one(encoder, variant, masked) for variant in VARIANTS]
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert got[6] == 0  # the wild type, exactly
    assert np.std(want) > 0.5  # the model has opinions
    other = marginals(encoder, VARIANTS, WILD, masked=not masked)
    assert np.abs(other - got).max() > 0.1


def test_mutated_positions_are_masked_together(encoder):
    """The score of a double mutant is no sum of those of its single mutants."""
    double = VARIANTS[4]
    singles = [WILD[:i] + double[i] + WILD[i + 1 :] for i in (5, 9)]
    scores = marginals(encoder, [double, *singles], WILD)
    assert abs(scores[0] - scores[1:].sum()) > 1e-3
    shown = marginals(encoder, [double, *singles], WILD, masked=False)
    np.testing.assert_allclose(shown[0], shown[1:].sum(), atol=1e-5)


def test_pseudo_log_likelihood_equals_one_mask_at_a_time(encoder):
    texts = [protein(n, seed=n) for n in (3, 11, 6)]
    want = []
    for tokens in encoder.tokenize(texts):
        total = 0.0
        for i in range(1, len(tokens) - 1):  # neither cls nor eos
            shown = tokens.copy()
            shown[i] = MASK
            total += log_probabilities(encoder, shown)[i, tokens[i]]
        want.append(total)
    np.testing.assert_allclose(pseudo_log_likelihood(encoder, texts), want, rtol=1e-5)
    means = np.array(want) / [3, 11, 6]
    np.testing.assert_allclose(pseudo_log_likelihood(encoder, texts, mean=True), means, rtol=1e-5)
    perplexity = pseudo_perplexity(encoder, texts)
    np.testing.assert_allclose(perplexity, np.exp(-means), rtol=1e-5)
    assert (perplexity > 1).all()


def test_next_token_log_likelihood_is_the_sum_of_log_softmax(causal):
    texts = [protein(n, seed=n) for n in (3, 25, 6, 12)]
    want, count = [], []
    for tokens in causal.tokenize(texts):
        said = log_probabilities(causal, tokens)
        want.append(sum(said[i, tokens[i + 1]] for i in range(len(tokens) - 1)))
        count.append(len(tokens) - 1)
    np.testing.assert_allclose(next_token_log_likelihood(causal, texts), want, rtol=1e-5)
    means = next_token_log_likelihood(causal, texts, mean=True)
    np.testing.assert_allclose(means, np.divide(want, count), rtol=1e-5)


def test_scores_depend_on_nothing_but_the_sequence(encoder, causal):
    """Neither on the others, their order, the length of rows, nor on how many share one."""
    texts = [protein(n, seed=n) for n in (4, 14, 9)]
    others = [protein(n, seed=50 + n) for n in (60, 8, 33)]
    alone = encoder_of(MASKED, segments=1, max_tokens=128)
    alone_causal = encoder_of(CAUSAL, segments=1, max_tokens=128)
    for score, model, single in (
        (pseudo_log_likelihood, encoder, alone),
        (next_token_log_likelihood, causal, alone_causal),
    ):
        want = score(model, texts)
        np.testing.assert_allclose(score(model, [*others, *texts[::-1]])[:2:-1], want, rtol=1e-5)
        np.testing.assert_allclose(score(single, texts), want, rtol=1e-5)
        assert np.abs(np.diff(want)).min() > 0.1
    order = [7, 2, 5]
    want = marginals(encoder, VARIANTS, WILD)
    few = marginals(alone, [VARIANTS[i] for i in order], WILD)
    np.testing.assert_allclose(few, want[order], atol=2e-5)


def test_more_contexts_than_a_batch_holds(encoder, monkeypatch):
    """Contexts are packed some batches at a time."""
    from biofm_jax.adapt import token_scores

    texts = [protein(20, seed=n) for n in range(6)]
    want = pseudo_log_likelihood(encoder, texts)
    monkeypatch.setattr(token_scores, "TOKENS", {"cpu": 128})
    monkeypatch.setattr(token_scores, "BATCHES", 3)
    token_scores._scorer.cache_clear()
    np.testing.assert_allclose(pseudo_log_likelihood(encoder, texts), want, rtol=1e-5)
    assert token_scores._scorer(MASKED)._cache_size() == 1  # one shape for all batches
    monkeypatch.setattr(token_scores, "LOGITS", 1)
    np.testing.assert_allclose(pseudo_log_likelihood(encoder, texts[:1]), want[:1], rtol=1e-5)


def test_nothing_to_score(encoder, causal):
    assert marginals(encoder, [], WILD).shape == (0,)
    assert (marginals(encoder, [WILD, WILD], WILD) == 0).all()
    assert pseudo_log_likelihood(encoder, []).shape == (0,)
    assert next_token_log_likelihood(causal, []).shape == (0,)


def test_insertions_and_deletions_are_named(encoder):
    texts = [VARIANTS[0], WILD[:-1], WILD + "A"]
    with pytest.raises(UserError, match=r"V39del has 18 tokens.*19.*pseudo_perplexity"):
        marginals(encoder, texts, WILD, ids=("A1C", "V39del", "54insA"))
    with pytest.raises(UserError, match="text 2 has 18 tokens"):
        marginals(encoder, texts, WILD)
    assert np.isfinite(pseudo_log_likelihood(encoder, texts)).all()


def test_a_sequence_longer_than_a_row_is_named(encoder, causal):
    long = [WILD, protein(63, seed=0)]
    with pytest.raises(UserError, match="text 2 has 65 tokens, and the rows of toy hold 64"):
        pseudo_log_likelihood(encoder, long)
    with pytest.raises(UserError, match="b has 65 tokens"):
        next_token_log_likelihood(causal, long, ids=("a", "b"))


def test_a_model_that_cannot_give_the_score_is_refused(encoder, causal):
    with pytest.raises(UserError, match="causal"):
        marginals(causal, VARIANTS, WILD)
    with pytest.raises(UserError, match="causal"):
        pseudo_log_likelihood(causal, [WILD])
    with pytest.raises(UserError, match="not causal"):
        next_token_log_likelihood(encoder, [WILD])
    contrastive = dataclasses.replace(MASKED, head=ProjectionHead(8))
    with pytest.raises(UserError, match="no language head"):
        marginals(encoder_of(contrastive), VARIANTS, WILD)
    headless = {name: part for name, part in encoder.params.items() if name != "head"}
    with pytest.raises(UserError, match="no language head"):
        marginals(dataclasses.replace(encoder, params=headless), VARIANTS, WILD)


def test_a_head_without_parameters_is_a_head():
    """A tied head without transform and bias has no parameters of its own."""
    spec = dataclasses.replace(MASKED, head=LanguageHead(transform=False, bias=False))
    assert np.isfinite(marginals(encoder_of(spec), VARIANTS, WILD)).all()


class TestAdapter:
    @staticmethod
    def labelled(texts, columns=1):
        ids = tuple(f"v{i}" for i in range(len(texts)))
        return Labelled(ids, tuple(texts), np.full((len(texts), columns), np.nan))

    def predict(self, adapter, texts=VARIANTS, seed=0, columns=1, train=()):
        train = self.labelled(list(train), columns)
        return adapter(train, train, self.labelled(list(texts), columns), seed)

    @pytest.mark.parametrize("score", ["masked_marginal", "wild_type_marginal"])
    def test_marginals(self, encoder, score):
        got = self.predict(zero_shot_adapter(encoder, score, WILD))
        masked = score == "masked_marginal"
        assert got.shape == (8, 1)
        np.testing.assert_array_equal(got[:, 0], marginals(encoder, VARIANTS, WILD, masked=masked))

    def test_likelihoods_are_relative_to_the_wild_type(self, encoder, causal):
        for model, score, function in (
            (encoder, "pseudo_perplexity", functools.partial(pseudo_log_likelihood, mean=True)),
            (causal, "next_token", next_token_log_likelihood),
        ):
            got = self.predict(zero_shot_adapter(model, score, WILD))[:, 0]
            assert got[6] == 0
            want = function(model, VARIANTS)
            np.testing.assert_allclose(got, want - want[6], atol=1e-5)
            plain = self.predict(zero_shot_adapter(model, score))[:, 0]
            np.testing.assert_allclose(plain, want, rtol=1e-5)

    def test_every_label_column_gets_the_score(self, encoder):
        got = self.predict(zero_shot_adapter(encoder, "masked_marginal", WILD), columns=3)
        assert got.shape == (8, 3) and (got == got[:, :1]).all()

    def test_labels_and_other_items_change_nothing(self, encoder):
        adapter = zero_shot_adapter(encoder, "masked_marginal", WILD)
        want = self.predict(adapter)
        fresh = zero_shot_adapter(encoder, "masked_marginal", WILD)
        train = Labelled(("a",), (VARIANTS[0],), np.array([[5.0]]))
        got = fresh(train, train, self.labelled(VARIANTS[:3]), 1)
        np.testing.assert_allclose(got, want[:3], atol=2e-5)

    def test_a_trained_model_scores_each_text_once_and_a_control_once_a_seed(
        self, encoder, monkeypatch
    ):
        asked, real = [], Marginals.__call__

        def counting(self, texts, **given):
            asked.append(len(texts))
            return real(self, texts, **given)

        monkeypatch.setattr(Marginals, "__call__", counting)
        trained = zero_shot_adapter(encoder, "masked_marginal", WILD)
        for seed in (0, 1, 0):
            self.predict(trained, [*VARIANTS, *VARIANTS], seed)
        assert asked == [8]
        control = zero_shot_adapter(encoder.control(), "masked_marginal", WILD)
        first, second, again = (self.predict(control, seed=seed) for seed in (0, 1, 0))
        assert asked == [8, 8, 8]
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - second).max() > 1e-2
        assert np.abs(second - self.predict(trained)).max() > 1e-2

    def test_impossible_requests_are_refused(self, encoder):
        with pytest.raises(UserError, match="wild type, and the task has none"):
            zero_shot_adapter(encoder, "masked_marginal")
        with pytest.raises(UserError, match=r"no zero-shot score 'elbo'.*next_token"):
            zero_shot_adapter(encoder, "elbo", WILD)
        adapter = zero_shot_adapter(encoder, "masked_marginal", WILD)
        with pytest.raises(UserError, match="v1 has 18 tokens"):
            self.predict(adapter, [VARIANTS[0], WILD[:-1]])
