import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import TINY, compiled_once, parameters

from biofm_jax.adapt import residues
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.fractions import (
    few_shot_adapter,
    fraction_adapter,
    shuffled_adapter,
    within_limits,
)
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.residues import (
    enough_items,
    in_rows,
    labelled_residues,
    residue_probe_adapter,
    residue_states,
    residues_for_seeds,
)
from biofm_jax.data.batch import Batch
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")
HELIX = "AEKL"


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def encoder():
    return Encoder("toy", TINY, ProteinData(max_tokens=128, segments=4), parameters(TINY))


def labelled(count, seed, longest=60):
    """Proteins whose residues are 0, or 1 if they favour helices; the first one has no label."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(LETTERS, rng.integers(5, longest))) for _ in range(count)]
    targets = np.full((count, longest), np.nan)
    for row, text in zip(targets, texts):
        row[1 : len(text)] = [letter in HELIX for letter in text[1:]]
    return Labelled(tuple(map(str, range(count))), tuple(texts), targets)


def accuracy(guess, part):
    have = ~np.isnan(part.targets)
    return np.mean(guess[have] == part.targets[have])


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_states_are_those_of_each_letter_alone_in_its_row(encoder, layer):
    """Against one row per text: packing, order and padding change nothing, cls and eos are out."""
    texts = labelled(9, seed=0).texts
    found = residue_states(encoder, 0, layer)(texts)
    model = encoder.spec.build()
    for text, states in zip(texts, found):
        ids = encoder.tokenize([text])[0]
        ones = np.ones((1, len(ids)), np.int32)
        batch = Batch(
            tokens=np.asarray(ids, np.int32)[None],
            segment_ids=ones,
            positions=np.arange(len(ids), dtype=np.int32)[None],
            examples=np.zeros((1, 1), np.int32),
        )
        out = model.apply(encoder.params, batch, collect=("layers",))
        want = out.hidden if layer is None else out.layers[layer]
        assert states.shape == (len(text), TINY.width) and states.dtype == np.float32
        np.testing.assert_allclose(states, np.asarray(want)[0, 1:-1], atol=1e-5)


def test_a_text_longer_than_a_row_is_read_in_full_windows(encoder):
    text = "".join(np.random.default_rng(3).choice(LETTERS, 300))
    states = residue_states(encoder, 0)
    (whole,) = states([text])
    window = 126  # 128 tokens without cls and eos
    first, second, last = states([text[:window], text[window : 2 * window], text[-window:]])
    np.testing.assert_allclose(whole[:window], first, atol=1e-5)
    # The last window is moved back, and what it says of the end stands.
    np.testing.assert_allclose(whole[-window:], last, atol=1e-5)
    np.testing.assert_allclose(whole[window : 300 - window], second[: 300 - 2 * window], atol=1e-5)
    assert np.abs(whole).sum(1).min() > 0


def test_tokens_that_are_no_letters_are_refused():
    data = MoleculeData(max_tokens=64, segments=4)
    spec = dataclasses.replace(TINY, vocabulary=len(data.tokenizer().vocabulary.tokens))
    params = spec.build().init(jax.random.key(0), None)
    with pytest.raises(UserError, match="letter by letter"):
        residue_states(Encoder("m", spec, data, params), 0)(["CCBr"])


def test_the_probe_learns_what_stands_at_each_place(encoder, monkeypatch):
    """And with shuffled labels it does not; a control with random parameters has its seeds."""
    train, valid, test = (labelled(60, seed) for seed in (1, 2, 3))
    adapter = residue_probe_adapter(residues_for_seeds(encoder, 0))
    blind = test.without_targets()
    guess = adapter(train, valid, blind, 0)
    assert guess.shape == test.targets.shape and np.isfinite(guess).all()
    assert accuracy(guess, test) > 0.99
    _, fitted, chosen_on = within_limits(adapter, train, valid, 0)  # what a result counts
    assert (len(fitted), len(chosen_on)) == (60, 60)
    monkeypatch.setattr(residues, "FITTED", 200)
    _, fitted, _ = within_limits(adapter, train, valid, 0)
    assert 0 < len(fitted) < 20
    shuffled = shuffled_adapter(adapter)(train, valid, blind, 0)
    commonest = max(np.nanmean(test.targets), 1 - np.nanmean(test.targets))
    assert accuracy(shuffled, test) < commonest + 0.02
    seeds = residues_for_seeds(encoder.control())
    assert seeds(0) is seeds(0) and seeds(0) is not seeds(1)
    one, other = (seeds(seed)(test.texts[:1])[0] for seed in (0, 1))
    assert np.abs(one - other).max() > 1e-2


def test_a_share_and_shots_are_of_sequences():
    train, valid, test = labelled(100, 1), labelled(50, 2), labelled(3, 3)
    seen = []

    def adapter(train, valid, test, seed):
        seen.append((train, valid))
        return test.targets

    fraction_adapter(adapter, 0.3, "residue")(train, valid, test, 0)
    fraction_adapter(adapter, 0.1, "residue")(train, valid, test, 0)
    few_shot_adapter(adapter, 4, "residue")(train, valid, test, 0)
    assert [(len(a), len(b)) for a, b in seen] == [(30, 15), (10, 5), (4, 0)]
    assert set(seen[2][0].ids) < set(seen[1][0].ids) < set(seen[0][0].ids)
    for part, _ in seen:  # whole rows
        rows = [int(name) for name in part.ids]
        np.testing.assert_array_equal(part.targets, train.targets[rows])


def test_enough_items_are_whole_and_no_more():
    part = labelled(40, 0)
    sizes = (~np.isnan(part.targets)).sum(1)
    rows = enough_items(part, 200)
    assert sizes[rows].sum() >= 200 and (np.diff(rows) > 0).all()
    assert any(sizes[rows].sum() - sizes[row] < 200 for row in rows)
    np.testing.assert_array_equal(enough_items(part, 10**9), np.arange(40))
    assert len(enough_items(part.at(np.arange(0)), 10)) == 0


def test_labels_beyond_a_text_are_left_out_and_predictions_there_are_0():
    targets = np.array([[0, np.nan, 1, 1, 1], [1, 0, np.nan, np.nan, np.nan]])
    x, y = labelled_residues([np.arange(3)[:, None], 10 + np.arange(2)[:, None]], targets)
    np.testing.assert_array_equal(x[:, 0], [0, 2, 10, 11])
    np.testing.assert_array_equal(y[:, 0], [0, 1, 1, 0])
    np.testing.assert_array_equal(in_rows([[1, 2], [3]], 3), [[1, 2, 0], [3, 0, 0]])
