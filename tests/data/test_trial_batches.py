import dataclasses

import jax
import numpy as np
import pytest
from toy_trials import row, rows, write_top

from biofm_jax.data.icd10 import Hierarchy
from biofm_jax.data.molecule_graph import molecule_graph
from biofm_jax.data.trial import read_top
from biofm_jax.data.trial_batches import TrialData
from biofm_jax.errors import UserError

SMALL = TrialData(max_tokens=32, sentence=8, segments=6, atoms=20, molecules=2, codes=3, words=64)


@pytest.fixture
def trials(tmp_path):
    return read_top(write_top(tmp_path / "t.csv", rows(7)))[0]


def test_a_row_holds_molecules_sentences_and_codes(trials):
    store = SMALL.store(trials, Hierarchy.of(trials[0].codes))
    one = store.take(np.array([0]))
    graph = molecule_graph(trials[0].smiles[0])
    np.testing.assert_array_equal(one.molecules.tokens[0, : len(graph)], graph.ids)
    np.testing.assert_array_equal(one.molecules.graph.edges[0, : len(graph.edges)], graph.edges)
    assert one.molecules.examples.tolist() == [[0, -1]]
    assert one.sides.tolist() == [[1, 1, 2, 2, 0, 0]]
    words = SMALL.tokenizer().encode(trials[0].criteria.exclusion[0])
    np.testing.assert_array_equal(one.criteria.tokens[0][one.criteria.segment_ids[0] == 3], words)
    assert (
        one.codes[0, 2].tolist() == [-1] * 7
        and one.codes[0, 0, 0] == store.hierarchy.index["C34.2"]
    )
    assert one.targets.tolist() == one.weights.tolist() == [[1.0]]
    assert sum(store.left_out.values()) == 0


def test_shapes_are_those_of_batches_and_what_does_not_fit_is_counted(trials):
    store = SMALL.store(trials, Hierarchy(()))
    batch = SMALL.store(trials, Hierarchy(())).take(np.arange(4))
    same = jax.tree.map(
        lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype), SMALL.shapes(4), batch
    )
    assert all(jax.tree.leaves(same))
    tight = dataclasses.replace(SMALL, atoms=5, segments=3, codes=1)
    left = tight.store(trials, Hierarchy(())).left_out
    # Aspirin has 13 atoms, in four of seven trials; each trial has four sentences.
    assert left == {"molecules": 4, "codes": 3, "sentences": 7}
    assert (store.arrays.codes == -1).all()


def test_every_trial_is_seen_once_an_epoch_and_the_order_goes_on(tmp_path):
    path, held = write_top(tmp_path / "t.csv", rows(7)), write_top(tmp_path / "v.csv", rows(2, 20))
    data = dataclasses.replace(SMALL, path=str(path), valid_path=str(held))
    store = data.open()
    order = {"batch_size": 3, "seed": 1}
    epoch = list(data.batches(store, **order, epochs=1))
    seen = np.concatenate([batch.examples[:, 0] for batch in epoch])
    assert sorted(seen.tolist()) == [-1, -1, 0, 1, 2, 3, 4, 5, 6]
    assert epoch[-1].weights.sum() == 1
    valid = list(data.batches(store, **order, epochs=1, holdout=True))
    assert [x for batch in valid for x in batch.examples[:, 0]] == [7, 8, -1]
    assert data.batches(store, **order).names(valid[0]) == ["NCT00000020", "NCT00000021"]
    first, second = data.batches(store, **order), data.batches(store, **order)
    for _ in range(4):
        next(first)
    second.restore(first.state())
    np.testing.assert_array_equal(next(first).examples, next(second).examples)
    part = data.batches(store, **order, share=np.array([1]))
    np.testing.assert_array_equal(next(part).examples, epoch[0].examples[1:2])
    with pytest.raises(UserError, match="had seed = 2, now it is 1"):
        first.restore(first.state() | {"seed": 2})


def test_misuse_is_named(trials):
    with pytest.raises(UserError, match=r"data\.path is empty"):
        TrialData().open()
    with pytest.raises(UserError, match=r"data\.sentence is 1"):
        dataclasses.replace(SMALL, sentence=1)
    with pytest.raises(UserError, match="there are no trials"):
        SMALL.store([], Hierarchy(()))


def test_an_unknown_outcome_has_no_weight(tmp_path):
    lines = [row(1, 1), row(2, 1) | {"label": ""}]
    store = SMALL.store(read_top(write_top(tmp_path / "t.csv", lines))[0], Hierarchy(()))
    assert store.arrays.weights[:, 0].tolist() == [1, 0]
    again = store.with_targets(np.array([[np.nan], [1.0]]))
    assert again.arrays.weights[:, 0].tolist() == [0, 1] and again.arrays.targets[1, 0] == 1
