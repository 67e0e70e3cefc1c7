import numpy as np
import pytest

from biofm_jax.data.bucketing import fill_batch, plan_batches, row_lengths


@pytest.mark.parametrize(
    ("longest", "want"),
    [
        (1024, (64, 128, 192, 256, 384, 512, 768, 1024)),
        (1000, (64, 128, 192, 256, 384, 512, 768, 1000)),
        (64, (64,)),
        (40, (40,)),
        (65, (64, 65)),
    ],
)
def test_row_lengths(longest, want):
    assert row_lengths(longest) == want


def some_lengths(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.clip(rng.lognormal(np.log(290), 0.7, count).astype(np.int64), 1, 1024)


@pytest.mark.parametrize("count", [1, 2, 37, 2000])
@pytest.mark.parametrize("segments", [1, 16])
def test_every_sequence_stands_once_and_whole(count, segments):
    lengths = some_lengths(count)
    ids = np.arange(int(lengths.sum())) % 20 + 4
    starts = np.cumsum(lengths) - lengths
    seen = np.zeros(count, int)
    for plan in plan_batches(lengths, row_lengths(1024), segments, 4096):
        batch = fill_batch(plan, ids, starts, lengths, segments, pad=1)
        assert batch.tokens.shape == (max(1, 4096 // plan.tokens), plan.tokens)
        for row, examples in enumerate(batch.examples):
            for slot, number in enumerate(examples):
                here = batch.segment_ids[row] == slot + 1
                assert here.any() == (number >= 0)
                if number >= 0:
                    seen[number] += 1
                    want = ids[starts[number] : starts[number] + lengths[number]]
                    np.testing.assert_array_equal(batch.tokens[row][here], want)
                    np.testing.assert_array_equal(batch.positions[row][here], np.arange(len(want)))
                    assert np.diff(np.flatnonzero(here)).max(initial=1) == 1
        assert (batch.tokens[batch.segment_ids == 0] == 1).all()
    assert (seen == 1).all()


def test_rows_are_full_and_hardly_longer_than_their_sequences():
    lengths = some_lengths(4000)
    plans = plan_batches(lengths, row_lengths(1024), 16, 4096)
    room = sum(plan.rows * plan.tokens for plan in plans)
    assert lengths.sum() / room > 0.97
    # Keys that a token meets: the square of one row length for all would be 1024.
    met = sum(plan.rows * plan.tokens**2 for plan in plans) / room
    own = (lengths**2).sum() / lengths.sum()
    assert met < 1.4 * own
    assert len({(plan.rows, plan.tokens) for plan in plans}) <= 8
