import json
from collections import Counter

import numpy as np
import pytest

from biofm_jax.data.in_memory import example_batches, pack_examples
from biofm_jax.data.tokenizers import esm2_tokenizer

VOCABULARY = esm2_tokenizer().vocabulary


@pytest.fixture
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(4, 24, n) for n in rng.integers(1, 50, 101)]


def pack(sequences, **options):
    settings = {"max_tokens": 64, "segments": 4, "batch_size": 8}
    return pack_examples(sequences, VOCABULARY, **{**settings, **options})


def test_placement_leads_back_to_every_example(sequences):
    packed = pack(sequences)
    assert {batch.tokens.shape for batch in packed.batches} == {(8, 64)}
    for number, ids in enumerate(sequences):
        batch = packed.batches[packed.batch[number]]
        row, segment = packed.row[number], packed.segment[number]
        assert batch.examples[row, segment] == number
        np.testing.assert_array_equal(batch.tokens[row][batch.segment_ids[row] == segment + 1], ids)
    assert packed.cropped == 0
    assert packed.batches[0].targets is None
    gathered = packed.gather([batch.examples[:, :, None] * 2.0 for batch in packed.batches])
    np.testing.assert_array_equal(gathered[:, 0], 2.0 * np.arange(101))


def test_longest_come_first(sequences):
    packed = pack(sequences, segments=1)
    filled = np.concatenate([(b.segment_ids > 0).sum(1) for b in packed.batches])[:101]
    assert (np.diff(filled) <= 0).all()


def test_long_example_keeps_its_head():
    packed = pack([np.arange(4, 24).repeat(5), np.array([4, 5])])
    assert packed.cropped == 1
    first = packed.batches[0].tokens[packed.row[0]]
    np.testing.assert_array_equal(first, np.arange(4, 24).repeat(5)[:64])


def test_labels_follow_their_examples(sequences):
    labels = np.arange(202, dtype=np.float32).reshape(101, 2)
    labels[7, 1] = np.nan
    weights = np.full((101, 2), 0.5, np.float32)
    packed = pack(sequences, labels=labels, weights=weights)
    targets = packed.gather([batch.targets for batch in packed.batches])
    weighed = packed.gather([batch.weights for batch in packed.batches])
    np.testing.assert_array_equal(targets, np.nan_to_num(labels))
    expected = weights.copy()
    expected[7, 1] = 0
    np.testing.assert_array_equal(weighed, expected)
    for batch in packed.batches:
        assert batch.targets.shape == batch.weights.shape == (8, 4, 2)
        assert batch.targets.dtype == np.float32
        assert not batch.weights[batch.examples < 0].any()


def test_no_examples_and_wrong_labels(sequences):
    empty = pack([])
    assert empty.batches == [] and len(empty.row) == 0
    with pytest.raises(ValueError, match="labels"):
        pack(sequences, labels=np.zeros(101))
    with pytest.raises(ValueError, match="no records"):
        next(example_batches([], VOCABULARY, max_tokens=8, segments=1, batch_size=1, seed=0))


def test_iterator_over_labelled_examples_resumes(sequences):
    labels = np.arange(101, dtype=np.float32)[:, None]

    def iterate(**options):
        settings = {"max_tokens": 64, "segments": 4, "batch_size": 4, "seed": 3, "labels": labels}
        return example_batches(sequences, VOCABULARY, **{**settings, **options})

    once = list(iterate(epochs=1))
    numbers = [int(i) for batch in once for i in batch.examples.ravel() if i >= 0]
    assert Counter(numbers) == Counter(range(101)) and numbers != sorted(numbers)
    first, second = iterate(), iterate()
    for _ in range(5):
        next(first)
    second.restore(json.loads(json.dumps(first.state())))
    for _ in range(40):
        left, right = next(first), next(second)
        np.testing.assert_array_equal(left.tokens, right.tokens)
        np.testing.assert_array_equal(left.targets, right.targets)
        there = left.examples >= 0
        np.testing.assert_array_equal(left.targets[there][:, 0], left.examples[there])
