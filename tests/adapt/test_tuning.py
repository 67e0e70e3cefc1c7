import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import TINY, compiled_once, parameters

from biofm_jax.adapt import tuning
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.lora_tuning import LoraSpec
from biofm_jax.adapt.tuning import tuned_adapter
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
SPEC = FinetuneSpec(epochs=6, rows=4, learning_rate=3e-3, dropout=0.0)
LORA = LoraSpec(epochs=12, rows=4, learning_rate=1e-2, dropout=0.0, rank=2)


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def encoder():
    spec = dataclasses.replace(TINY, layers=1, width=16, heads=2)
    data = ProteinData(max_tokens=64, segments=4)
    return Encoder("toy", spec, data, parameters(spec))


def planted(count, seed, kind):
    """The label is the share of one residue, far from zero mean and unit scale."""
    rng = np.random.default_rng(seed)
    texts, targets = [], []
    for _ in range(count):
        share = rng.random()
        letters = np.where(rng.random(14) < share, "W", rng.choice(LETTERS[:10], 14))
        texts.append("".join(letters))
        targets.append((letters == "W").mean())
    targets = np.array(targets)[:, None]
    targets = (targets > 0.5).astype(float) if kind == "binary" else 300 + 50 * targets
    ids = tuple(f"{seed}-{i}" for i in range(count))
    return Labelled(ids, tuple(texts), targets)


@pytest.fixture
def fits(monkeypatch):
    """The Fit of every run that the adapter starts."""
    seen, real = [], tuning.fit

    def recording(*args, **kwargs):
        seen.append(real(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(tuning, "fit", recording)
    return seen


@pytest.mark.parametrize("spec", [SPEC, LORA], ids=["finetune", "lora"])
@pytest.mark.parametrize("kind", ["number", "binary"])
def test_it_learns_a_planted_label(encoder, fits, kind, spec):
    before = jax.tree.map(np.copy, encoder.params)
    train, valid, test = (planted(n, s, kind) for n, s in ((160, 1), (40, 2), (60, 3)))
    adapt = tuned_adapter(encoder, spec, kind, show=False)
    predicted = adapt(train, valid, test.without_targets(), seed=0)
    assert predicted.shape == (60, 1)
    losses = [row["loss"] for row in fits[0].rows]
    assert 0 < losses[-1] < 0.5 * losses[0]
    assert fits[0].compilations == 1
    truth = test.targets[:, 0]
    if kind == "number":  # in the label's own unit
        error = np.sqrt(np.mean((predicted[:, 0] - truth) ** 2))
        assert error < 0.4 * truth.std()
    else:
        scores = predicted[:, 0]
        auc = (scores[truth == 1][:, None] > scores[truth == 0][None]).mean()
        assert auc > 0.95
    # The encoder's own parameters are as before: not donated, not changed.
    jax.tree.map(np.testing.assert_array_equal, encoder.params, before)


def test_device_parameters_are_not_given_away(encoder):
    on_device = dataclasses.replace(encoder, params=jax.tree.map(jax.numpy.asarray, encoder.params))
    parts = [planted(n, s, "number") for n, s in ((40, 1), (5, 2), (6, 3))]
    tuned_adapter(on_device, SPEC, "number", show=False)(*parts, seed=0)
    jax.tree.map(np.testing.assert_array_equal, on_device.params, encoder.params)


def test_too_few_validation_items_choose_nothing(encoder, fits):
    parts = [planted(n, s, "number") for n, s in ((40, 1), (5, 2), (6, 3))]
    tuned_adapter(encoder, SPEC, "number", show=False)(*parts, seed=0)
    assert fits[0].best is None
    assert not any("validation_loss" in row for row in fits[0].rows)


def test_it_follows_the_seed(encoder):
    parts = [planted(n, s, "number") for n, s in ((40, 1), (5, 2), (6, 3))]
    adapt = tuned_adapter(encoder, SPEC, "number", show=False)
    first, again, other = (adapt(*parts, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_missing_labels_teach_nothing(encoder, fits):
    train, valid, test = (planted(n, s, "number") for n, s in ((80, 1), (5, 2), (6, 3)))
    gaps = train.targets.copy()
    gaps[::2] = np.nan
    holes = dataclasses.replace(train, targets=gaps)
    predicted = tuned_adapter(encoder, SPEC, "number", show=False)(holes, valid, test, seed=0)
    assert np.isfinite(predicted).all()
    assert all(np.isfinite(row["loss"]) for row in fits[0].rows)


def test_several_labels_with_gaps_are_learned_together(encoder, fits):
    """The second label is the opposite of the first; of each, half is missing, never of both."""

    def several(part):
        both = np.concatenate([part.targets, 1 - part.targets], axis=1)
        gaps = np.arange(len(part)) % 2 == 0
        both[gaps, 0], both[~gaps, 1] = np.nan, np.nan
        return dataclasses.replace(part, targets=both)

    train, valid = (several(planted(n, s, "binary")) for n, s in ((200, 1), (60, 2)))
    test = planted(60, 3, "binary")
    blank = dataclasses.replace(test, targets=np.full((60, 2), np.nan))
    predicted = tuned_adapter(encoder, SPEC, "binary", show=False)(train, valid, blank, seed=0)
    assert predicted.shape == (60, 2) and fits[0].compilations == 1
    ones, zeros = predicted[test.targets[:, 0] == 1], predicted[test.targets[:, 0] == 0]
    assert (ones[:, 0][:, None] > zeros[:, 0]).mean() > 0.9
    assert (ones[:, 1][:, None] < zeros[:, 1]).mean() > 0.9


def test_a_column_without_a_label_to_learn_from_is_named(encoder):
    train, valid, test = (planted(n, s, "number") for n, s in ((40, 1), (5, 2), (6, 3)))
    two = np.concatenate([train.targets, np.full((40, 1), np.nan)], axis=1)
    train = dataclasses.replace(train, targets=two)
    with pytest.raises(UserError, match="label column 1 has no label in the training part"):
        tuned_adapter(encoder, SPEC, "number", show=False)(train, valid, test, seed=0)


def test_it_learns_classes(encoder, fits):
    """Three classes by the commonest of three residues."""
    rng = np.random.default_rng(0)

    def part(count, seed):
        labels = rng.integers(0, 3, count)
        texts = ["".join(rng.choice(["W", "A", "G"], 14, p=np.roll([0.6, 0.2, 0.2], k)))
                 for k in labels]  # fmt: skip
        ids = tuple(f"{seed}-{i}" for i in range(count))
        return Labelled(ids, tuple(texts), labels[:, None].astype(float))

    train, valid, test = part(160, 1), part(40, 2), part(60, 3)
    predicted = tuned_adapter(encoder, SPEC, "class", show=False)(
        train, valid, test.without_targets(), seed=0
    )
    assert predicted.shape == (60, 1) and set(predicted[:, 0]) <= {0.0, 1.0, 2.0}
    assert (predicted == test.targets).mean() > 0.8
    assert fits[0].compilations == 1
