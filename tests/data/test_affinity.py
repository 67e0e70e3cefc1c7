"""DeepDTA's files, good and bad, and batches of pairs."""

import gzip
import json

import numpy as np
import pytest

from biofm_jax.data.affinity import read_affinities, split_pair
from biofm_jax.data.pair_batches import Pairs, ShuffledPairs
from biofm_jax.errors import UserError

GOOD = {
    "matrix": "1.5\tnan\t3\t\n nan 20 30\n",
    "ligands": json.dumps({"a": "CCO", "b": "c1ccccc1"}),
    "proteins": json.dumps({"P": "MKT", "Q": "MAA", "R": "MCC"}),
    "train": "[[0], [2]]",
    "test": "[3, 1]",
}


def read(folder, **changes):
    paths = []
    for name, text in (GOOD | changes).items():
        path = folder / f"{name}.gz"
        path.write_bytes(gzip.compress(text.encode()))
        paths.append(path)
    return read_affinities(*paths)


def test_measured_cells_come_row_by_row_and_folds_are_places_among_them(tmp_path):
    found = read(tmp_path)
    assert found.ids() == ("a P", "a R", "b Q", "b R")
    np.testing.assert_array_equal(found.values, [1.5, 3, 20, 30])
    assert [fold.tolist() for fold in found.train] == [[0], [2]] and found.test.tolist() == [3, 1]
    assert [split_pair(text) for text in found.texts()][2] == ("c1ccccc1", "MAA")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"matrix": "1 2\n3 4 5\n"}, "matrix.gz, line 1: 2 values for 3 proteins"),
        ({"matrix": "1 2 3\n4 x 5\n"}, "matrix.gz, line 2: could not convert"),
        ({"matrix": "1 2 3\n"}, "matrix.gz: 1 lines for 2 drugs"),
        ({"ligands": "[1]"}, "ligands.gz: an object of names and SMILES"),
        ({"ligands": '{"a": "C C", "b": "C"}'}, "ligands.gz: a: 'C C' is no SMILES"),
        ({"proteins": '{"P": 3}'}, "proteins.gz: P: 3 is no sequence"),
        ({"train": "[0, 2]"}, "train.gz: a list of lists"),
        ({"train": "[[0], [2.0]]"}, "train.gz: places are whole numbers"),
        ({"test": "[4]"}, "test.gz: places are wanted between 0 and 3"),
        ({"test": "[2]"}, "a pair stands in two folds"),
        ({"test": "{"}, "test.gz: no gzipped JSON"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, changes, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        read(tmp_path, **changes)


def test_a_text_that_is_no_pair_is_named():
    with pytest.raises(UserError, match="'CCO' is no pair"):
        split_pair("CCO")


PAIRS = Pairs(
    np.stack([np.arange(11), np.arange(11) % 3], 1).astype(np.int32),
    np.where(np.arange(11) == 4, np.nan, np.arange(11.0)).astype(np.float32)[:, None],
)


def test_every_epoch_has_every_pair_once_and_goes_on_where_it_stopped():
    batches = ShuffledPairs(PAIRS, 4, seed=1)
    whole = [next(batches) for _ in range(11)]
    seen = np.concatenate([batch.examples[:, 0] for batch in whole]).reshape(4, 11)
    np.testing.assert_array_equal(np.sort(seen, 1), np.tile(np.arange(11), (4, 1)))
    assert not np.array_equal(seen[0], seen[1])
    batch = whole[0]
    np.testing.assert_array_equal(batch.tokens, PAIRS.numbers[batch.examples[:, 0]])
    assert (batch.weights[:, 0, 0] == (batch.examples[:, 0] != 4)).all()
    again = ShuffledPairs(PAIRS, 4, seed=1)
    again.restore({"next": 5})
    np.testing.assert_array_equal(next(again).examples, whole[5].examples)
    assert again.state() == {"next": 6} and again.names(batch)[0] == f"pair {seen[0, 0]}"


def test_once_is_in_order_and_the_last_batch_is_filled_up():
    *_, last = PAIRS.once(4)
    np.testing.assert_array_equal(last.examples[:, 0], [8, 9, 10, -1])
    np.testing.assert_array_equal(last.segment_ids.sum(1), [2, 2, 2, 0])
    assert last.weights[3, 0, 0] == 0 and np.isfinite(last.targets).all()


def test_a_batch_may_be_larger_than_all_pairs():
    batch = next(ShuffledPairs(PAIRS, 16, seed=0))
    np.testing.assert_array_equal(np.sort(batch.examples[:, 0])[5:], np.arange(11))
