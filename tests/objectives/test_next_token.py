import numpy as np
from toy_batches import VOCABULARY, packed

from biofm_jax.data.batch import Batch
from biofm_jax.models.api import Outputs
from biofm_jax.objectives.next_token import NextToken, shifted


def test_targets_and_weights_of_a_packed_row():
    row = np.array([[5, 6, 7, 8, 9, 1, 1]], np.int32)
    segments = np.array([[1, 1, 1, 2, 2, 0, 0]], np.int32)
    batch = Batch(row, segments, np.zeros_like(row), np.array([[0, 1]], np.int32))
    targets, weights = map(np.asarray, shifted(batch))
    # The last token of each example and padding predict nothing.
    np.testing.assert_array_equal(weights, [[1, 1, 0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(targets[weights > 0], [6, 7, 9])


def test_a_full_row_does_not_wrap_around():
    row = np.array([[5, 6, 7]], np.int32)
    batch = Batch(row, np.ones_like(row), np.zeros_like(row), np.array([[0]], np.int32))
    np.testing.assert_array_equal(shifted(batch)[1], [[1, 1, 0]])


def test_every_example_has_one_target_fewer_than_tokens():
    batch = packed(rows=32)
    weights = np.asarray(shifted(batch)[1])
    assert (batch.segment_ids == 0).any()
    for row in range(32):
        for segment in range(1, 5):
            inside = batch.segment_ids[row] == segment
            assert weights[row, inside].sum() == max(0, inside.sum() - 1)


def test_loss_is_the_cross_entropy_of_the_next_token():
    batch = packed(rows=4)
    logits = np.random.default_rng(0).normal(size=(4, 32, VOCABULARY.size)).astype(np.float32)
    loss = (
        NextToken()
        .build(VOCABULARY)
        .loss(lambda params, batch, rngs: Outputs(logits=logits), {}, {}, batch, None)
    )
    total, count, hits = 0.0, 0, 0
    wide = logits.astype(np.float64)
    for row in range(4):
        for t in range(31):
            if batch.segment_ids[row, t] and (
                batch.segment_ids[row, t] == batch.segment_ids[row, t + 1]
            ):
                target = batch.tokens[row, t + 1]
                total += np.log(np.exp(wide[row, t]).sum()) - wide[row, t, target]
                count, hits = count + 1, hits + (wide[row, t].argmax() == target)
    np.testing.assert_allclose(loss.total, total, rtol=1e-6)
    assert loss.weight == count and loss.metrics["accuracy"] == hits
