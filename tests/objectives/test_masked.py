import dataclasses
import functools

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE, RESIDUES, VOCABULARY, packed

from biofm_jax.errors import UserError
from biofm_jax.objectives.masked import MaskedLM, corrupt

KEY = jax.random.key(7)


@functools.cache
def jitted(spec):
    return jax.jit(
        lambda batch, key: corrupt(spec, VOCABULARY, batch, key), compiler_options=FAST_COMPILE
    )


def hide(spec, batch, key=KEY):
    return jax.tree.map(np.asarray, jitted(spec)(batch, key))


def chosen(hidden) -> np.ndarray:
    """(b, t) bool: which tokens are to be predicted."""
    mask = np.zeros(hidden.segment_ids.shape, bool)
    for row in range(len(mask)):
        mask[row, hidden.predict[row][hidden.weights[row] > 0]] = True
    return mask


@pytest.fixture(scope="module")
def batch():
    return packed(rows=64, tokens=48, slots=4)


@pytest.mark.parametrize("rate", [0.15, 0.5, 1.0])
def test_exactly_the_rate_of_each_rows_ordinary_tokens_is_chosen(batch, rate):
    hidden = hide(MaskedLM(rate=rate), batch)
    regular = np.isin(batch.tokens, VOCABULARY.regular) & (batch.segment_ids > 0)
    wanted = np.round(np.float32(rate) * regular.sum(1).astype(np.float32))
    np.testing.assert_array_equal(chosen(hidden).sum(1), wanted)
    assert hidden.predict.shape[1] == round(rate * 48)


def test_specials_and_padding_are_never_chosen_nor_changed(batch):
    regular = np.isin(batch.tokens, VOCABULARY.regular) & (batch.segment_ids > 0)
    assert (~regular).any() and (batch.segment_ids == 0).any()
    for seed in range(5):
        hidden = hide(MaskedLM(rate=1.0), batch, jax.random.key(seed))
        assert not (chosen(hidden) & ~regular).any()
        np.testing.assert_array_equal(hidden.tokens[~regular], batch.tokens[~regular])


def test_targets_are_the_original_tokens(batch):
    hidden = hide(MaskedLM(), batch)
    original = np.take_along_axis(batch.tokens, hidden.predict, axis=1)
    np.testing.assert_array_equal(hidden.targets, original)
    changed = hidden.tokens != batch.tokens
    assert changed.any() and not (changed & ~chosen(hidden)).any()


def test_eighty_ten_ten_and_random_tokens_are_ordinary(batch):
    drawn = [hide(MaskedLM(rate=0.5), batch, jax.random.key(seed)) for seed in range(14)]
    shown = np.concatenate([hidden.tokens[chosen(hidden)] for hidden in drawn])
    original = np.concatenate([batch.tokens[chosen(hidden)] for hidden in drawn])
    assert len(shown) > 10_000
    masked = (shown == VOCABULARY.mask).mean()
    kept = (shown == original).mean()
    drawn = shown[(shown != VOCABULARY.mask) & (shown != original)]
    same = 0.1 / len(VOCABULARY.regular)  # a random token that happens to be the original
    # Four standard deviations of a share p of n draws are 4 sqrt(p (1 - p) / n).
    n = len(shown)
    assert abs(masked - 0.8) < 4 * np.sqrt(0.16 / n)
    assert abs(kept - 0.1 - same) < 4 * np.sqrt(0.1 / n)
    assert set(drawn.tolist()) == set(VOCABULARY.regular)
    counts = np.bincount(drawn, minlength=VOCABULARY.size)[list(VOCABULARY.regular)]
    assert counts.min() > 0.3 * counts.mean()


def test_fractions_are_those_asked_for(batch):
    only = hide(MaskedLM(rate=0.3, mask=1.0, random=0.0), batch)
    assert (only.tokens[chosen(only)] == VOCABULARY.mask).all()
    none = hide(MaskedLM(rate=0.3, mask=0.0, random=0.0), batch)
    np.testing.assert_array_equal(none.tokens, batch.tokens)


def test_masks_follow_the_record_not_the_place_in_the_batch(batch):
    whole = hide(MaskedLM(), batch)
    order = np.random.default_rng(0).permutation(64)[:16]  # another order, another microbatch
    part = hide(MaskedLM(), jax.tree.map(lambda x: x[order], batch))
    np.testing.assert_array_equal(part.tokens, whole.tokens[order])
    np.testing.assert_array_equal(part.predict, whole.predict[order])


def test_another_step_or_record_draws_other_masks(batch):
    first = chosen(hide(MaskedLM(), batch))
    again = chosen(hide(MaskedLM(), batch, jax.random.fold_in(KEY, 1)))
    assert (first != again).any(axis=1).mean() > 0.9
    moved = chosen(hide(MaskedLM(), batch.replace(examples=batch.examples + 1000)))
    assert (first != moved).any(axis=1).mean() > 0.9


class TestSpans:
    spec = MaskedLM(rate=0.3, mask=1.0, random=0.0, span=4)

    @pytest.fixture
    def plain(self):
        """Examples of ordinary tokens only, back to back, so that runs of masks are spans."""
        batch = packed(rows=200, tokens=64, slots=4, lengths=(14, 17), seed=5)
        tokens = batch.tokens.copy()
        rng = np.random.default_rng(0)
        special = ~np.isin(tokens, RESIDUES) & (batch.segment_ids > 0)
        tokens[special] = rng.choice(RESIDUES, special.sum())
        return batch.replace(tokens=tokens)

    def test_whole_spans_only(self, plain):
        """Inside an example runs of hidden tokens are multiples of the span, but at its ends."""
        hidden = hide(self.spec, plain)
        where = chosen(hidden)
        seen = 0
        for row in range(len(where)):
            for segment in range(1, 5):
                inside = np.flatnonzero(plain.segment_ids[row] == segment)
                if not len(inside):
                    continue
                line = where[row, inside]
                edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
                for start, stop in edges.reshape(-1, 2):
                    if start > 0 and stop < len(line):
                        seen += 1
                        assert (stop - start) % 4 == 0
        assert seen > 100

    def test_spans_end_with_their_example(self):
        """Short examples side by side are hidden one by one, not as one span of the row."""
        batch = packed(rows=200, tokens=64, slots=16, lengths=(3, 4))
        batch = batch.replace(tokens=np.full_like(batch.tokens, RESIDUES[0]))
        where = chosen(hide(self.spec, batch))
        real = batch.segment_ids > 0
        border = (batch.segment_ids[:, 1:] != batch.segment_ids[:, :-1]) & real[:, 1:]
        inside = real[:, 1:] & ~border
        left, right = where[:, :-1], where[:, 1:]
        assert left[border].mean() > 0.2
        assert (left == right)[inside].mean() > 0.8
        # Independent draws at 0.3 agree in 0.09 of all cases, one span over the border in 0.3.
        assert (left & right)[border].mean() < 0.2

    def test_the_masked_count_is_close_to_the_rate(self, plain):
        hidden = hide(self.spec, plain)
        real = (plain.segment_ids > 0).sum(1)
        taken = chosen(hidden).sum(1)
        wanted = np.round(0.3 * real)
        assert (taken <= wanted).all() and (wanted - taken < 4).all()


def test_logits_are_asked_for_at_the_chosen_positions_only(batch):
    seen = []

    class Stop(Exception):
        pass

    def apply(params, batch, rngs):
        seen.append(batch)
        raise Stop

    objective = MaskedLM(rate=0.25).build(VOCABULARY)
    with pytest.raises(Stop):
        jax.eval_shape(lambda batch: objective.loss(apply, {}, {}, batch, KEY), batch)
    assert seen[0].predict.shape == (64, 12)


def test_the_rest_of_a_row_has_no_weight():
    batch = packed(rows=64, tokens=48, slots=1)  # mostly padding: fewer than k to choose
    batch = batch.replace(examples=np.repeat(batch.examples, 4, axis=1))
    hidden = hide(MaskedLM(rate=0.5), batch)
    assert (hidden.weights == 0).any()
    assert set(np.unique(hidden.weights)) == {0.0, 1.0}
    empty = batch.replace(segment_ids=np.zeros_like(batch.segment_ids))
    assert hide(MaskedLM(rate=0.5), empty).weights.sum() == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 0.0}, "objective.rate"),
        ({"rate": 1.5}, "objective.rate"),
        ({"mask": 0.8, "random": 0.3}, "objective.mask"),
        ({"random": -0.1}, "objective.random"),
        ({"span": 0}, "objective.span"),
    ],
)
def test_impossible_settings_are_named(change, words):
    with pytest.raises(UserError, match=words):
        MaskedLM(**change).build(VOCABULARY)


def test_a_vocabulary_without_a_mask_token_is_refused():
    with pytest.raises(UserError, match="no mask token"):
        MaskedLM().build(dataclasses.replace(VOCABULARY, mask=-1))
