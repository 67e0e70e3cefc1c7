import numpy as np
import pytest
from scored_examples import MASK, MASKED, encoder_of, log_probabilities, mutant, protein
from toy_batches import compiled_once

from biofm_jax.adapt import token_scores
from biofm_jax.adapt.marginals import Marginals
from biofm_jax.errors import UserError

LONG = protein(150, seed=3)  # 152 tokens, and rows hold 64
SITES = (0, 10, 31, 32, 70, 118, 119, 149)


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def encoder():
    return encoder_of(MASKED)


@pytest.fixture
def batches(monkeypatch):
    """The shapes of all batches that a language model reads."""
    seen, real = [], token_scores._scorer

    def watched(spec):
        run = real(spec)

        def counted(params, batch, targets):
            seen.append(batch.tokens.shape)
            return run(params, batch, targets)

        return counted

    monkeypatch.setattr(token_scores, "_scorer", watched)
    return seen


def by_hand(encoder, variant, masked, room=64):
    """A single mutant in the window that ProteinGym's `get_optimal_window` would take."""
    wild, tokens = encoder.tokenize([LONG, variant])
    (site,) = np.flatnonzero(wild != tokens)
    shown, half = wild.copy(), room // 2
    if masked:
        shown[site] = MASK
    if site < half:
        start = 0
    elif site >= len(wild) - half:
        start = len(wild) - room
    else:
        start = site - half
    said = log_probabilities(encoder, shown[start : start + room])[site - start]
    return said[tokens[site]] - said[wild[site]]


@pytest.mark.parametrize("masked", [True, False])
def test_a_long_wild_type_is_read_in_a_window_around_each_mutation(encoder, masked):
    variants = [mutant(LONG, [site], seed=site) for site in SITES]
    got = Marginals(encoder, LONG, masked=masked)([*variants, LONG])
    want = [by_hand(encoder, variant, masked) for variant in variants]
    np.testing.assert_allclose(got[:-1], want, atol=2e-5)
    assert got[-1] == 0 and np.std(want) > 0.3


def test_a_window_covers_all_mutations_of_a_variant_or_says_that_it_cannot(encoder):
    marginals = Marginals(encoder, LONG)
    double = mutant(LONG, [20, 82], seed=1)  # tokens 21 and 83, with 63 from one to the other
    wild, tokens = encoder.tokenize([LONG, double])
    shown = np.where(wild == tokens, wild, MASK)[20:84]
    said = log_probabilities(encoder, shown)
    want = sum(said[i - 20, tokens[i]] - said[i - 20, wild[i]] for i in (21, 83))
    np.testing.assert_allclose(marginals([double]), [want], atol=2e-5)
    with pytest.raises(UserError, match=r"far has mutations 64 tokens apart.*toy hold 64"):
        marginals([mutant(LONG, [20, 84])], ids=["far"])


def test_a_sequence_that_fits_is_read_whole(encoder):
    wild = protein(62, seed=4)  # 64 tokens
    variant = mutant(wild, [3], seed=1)
    tokens, mutated = encoder.tokenize([wild, variant])
    said = log_probabilities(encoder, np.where(tokens == mutated, tokens, MASK))[4]
    got = Marginals(encoder, wild)([variant])
    np.testing.assert_allclose(got, [said[mutated[4]] - said[tokens[4]]], atol=2e-5)


class TestEachContextIsReadOnce:
    WILD = protein(40, seed=5)

    def variants(self, sites, start=0):
        return [mutant(self.WILD, [site], seed=start + k) for site in sites for k in range(4)]

    def test_one_row_for_each_mutated_site(self, encoder, batches):
        marginals = Marginals(encoder, self.WILD)
        marginals(self.variants(range(40)))
        rows, tokens = batches[0]
        assert set(batches) == {(rows, tokens)} and tokens == 64
        assert 40 <= rows * len(batches) < 40 + rows

    def test_a_fold_asks_again_for_what_is_known(self, encoder, batches):
        """Other residues at a known site cost nothing; new sites come in the compiled shape."""
        marginals = Marginals(encoder, self.WILD)
        first = marginals(self.variants(range(30)))
        read = len(batches)
        again = marginals(self.variants(range(30), start=7)[::-1])
        assert len(batches) == read and np.abs(again).min() > 0
        marginals(self.variants([2, 35]))
        assert len(batches) == read + 1 and len(set(batches)) == 1
        fresh = Marginals(encoder, self.WILD)(self.variants([2, 35]))
        np.testing.assert_allclose(marginals(self.variants([2, 35])), fresh, atol=2e-5)
        np.testing.assert_array_equal(marginals(self.variants(range(30))), first)

    def test_nothing_masked_is_one_context_for_all(self, encoder, batches):
        marginals = Marginals(encoder, self.WILD, masked=False)
        marginals(self.variants(range(40)))
        marginals(self.variants(range(10), start=9))
        assert len(batches) == 1

    def test_another_seed_of_a_random_model_is_another_model(self, encoder, batches):
        control = Marginals(encoder.control(), self.WILD)
        variants = self.variants([3])
        first = control(variants, seed=0)
        assert np.abs(control(variants, seed=1) - first).max() > 1e-2
        np.testing.assert_array_equal(control(variants, seed=0), first)
        assert len(batches) == 3


def test_rows_are_cut_to_contexts_of_one_length(encoder):
    """150 residues take rows of 192 tokens; contexts of several lengths powers of two."""
    wide = encoder_of(MASKED, max_tokens=1024)
    sizes = token_scores.Sizes(count=100, shortest=152, longest=152, positions=1, candidates=33)
    assert token_scores._shape(wide, sizes).tokens == 192
    mixed = token_scores.Sizes(count=100, shortest=20, longest=152, positions=1, candidates=33)
    assert token_scores._shape(wide, mixed).tokens == 256
    assert token_scores._shape(encoder, sizes).tokens == 64  # never longer than its rows
    together = sizes.at_least(mixed)
    assert together == mixed.at_least(sizes) == mixed


def test_batches_are_bounded_in_tokens_and_logits(encoder, monkeypatch):
    many = token_scores.Sizes(count=999, shortest=64, longest=64, positions=1, candidates=33)
    shape = token_scores._shape(encoder, many)
    assert shape.rows * shape.tokens == token_scores.TOKENS["cpu"]
    few = token_scores._shape(encoder, token_scores.Sizes(3, 64, 64, 1, 33))
    assert few.rows == 4
    monkeypatch.setattr(token_scores, "LOGITS", 33 * 8)
    small = token_scores._shape(encoder, many)
    assert small.rows * small.read * 33 <= 33 * 8 and small.batches == 1
