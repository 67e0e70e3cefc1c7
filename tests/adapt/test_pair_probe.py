"""A head on two frozen models."""

import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import FAST_COMPILE

from biofm_jax.adapt.features import Remembered
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.pair_probe import PairFeatures, PairProbeSpec, pair_probe_adapter
from biofm_jax.data.pair_batches import Pairs
from biofm_jax.evaluate.baselines_affinity import (
    RIDGE,
    additive_means,
    kmer_cosine,
    kronecker_ridge,
    tanimoto,
)
from biofm_jax.models.pair_head import PairHeadSpec

RNG = np.random.default_rng(0)
DRUGS = {"C" * n + "O" * k: RNG.normal(size=3) for n in range(1, 7) for k in range(1, 5)}
PROTEINS = {"MKT" + a + b * 3 + c: RNG.normal(size=4) for a in "ACD" for b in "EFG" for c in "HI"}
SPEC = PairProbeSpec(width=16, steps=300, rows=64, learning_rate=1e-2, dropout=0.0)


def embed(table):
    calls = []

    def features(texts):
        calls.append(len(texts))
        return np.array([table[text] for text in texts])

    return Remembered(lambda seed: features), calls


@pytest.fixture(scope="module")
def parts():
    """Labels that neither the drug nor the protein alone explains."""
    pairs = [(d, p) for d in DRUGS for p in PROTEINS]
    labels = [3 + 2 * DRUGS[d][0] * PROTEINS[p][1] + PROTEINS[p][2] for d, p in pairs]
    ids = tuple(str(i) for i in range(len(pairs)))
    items = Labelled(ids, tuple(f"{d} {p}" for d, p in pairs), np.array(labels)[:, None])
    order = np.random.default_rng(1).permutation(len(pairs))
    return [items.at(index) for index in np.split(order, [300, 360])]


def test_a_head_finds_what_means_cannot_and_each_text_is_embedded_once(parts):
    (drug, read), (target, also) = embed(DRUGS), embed(PROTEINS)
    adapter = pair_probe_adapter(PairFeatures(drug, target), SPEC)
    train, valid, test = parts
    blind = test.without_targets()
    found = adapter(train, valid, blind, 0)
    error = np.mean((found - test.targets) ** 2)
    means = np.mean((additive_means(train, valid, blind, 0) - test.targets) ** 2)
    assert found.shape == test.targets.shape and error < 0.2 * means
    assert (sum(read), sum(also)) == (len(DRUGS), len(PROTEINS))
    np.testing.assert_array_equal(adapter(train, valid, blind, 0), found)
    shuffled = dataclasses.replace(train, targets=train.targets[::-1])
    assert np.mean((adapter(shuffled, valid, blind, 0) - test.targets) ** 2) > 3 * error


def test_the_prediction_of_a_pair_depends_on_no_other_and_dropout_on_its_key():
    spec = PairHeadSpec(3, 4, width=8, dropout=0.5)
    model, rng = spec.build(), np.random.default_rng(2)
    sizes = {"first": (5, 3), "second": (6, 4)}
    tables = {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    params = {**model.init(jax.random.key(0), None), "tables": tables}
    numbers = rng.integers(0, 5, (7, 2)).astype(np.int32)
    pairs = Pairs(numbers, np.zeros((7, 1), np.float32))
    apply = jax.jit(model.apply, static_argnames="train", compiler_options=FAST_COMPILE)
    whole = apply(params, pairs.batch(np.arange(7), 7)).logits
    alone = [apply(params, pairs.batch(np.array([i]), 2)).logits[0] for i in range(7)]
    assert whole.shape == (7, 1, 1)
    np.testing.assert_allclose(whole, alone, atol=1e-5)
    dropped = [
        apply(params, pairs.batch(chosen, 4), rngs=jax.random.key(1), train=True).logits[0]
        for chosen in (np.array([3, 1]), np.array([3]))
    ]
    np.testing.assert_allclose(*dropped, atol=1e-5)
    assert abs(float(dropped[0][0, 0] - whole[3, 0, 0])) > 1e-4


def test_additive_means_are_least_squares(parts):
    train, valid, test = (part.at(np.arange(n)) for part, n in zip(parts, (60, 10, 40)))
    texts = [text.split(" ") for part in (train, valid, test) for text in part.texts]
    columns = [{t: i for i, t in enumerate(dict.fromkeys(x))} for x in zip(*texts)]
    design = np.zeros((110, 1 + sum(map(len, columns))))
    for row, pair in zip(design, texts, strict=True):
        row[[0, 1 + columns[0][pair[0]], 1 + len(columns[0]) + columns[1][pair[1]]]] = 1
    y = np.concatenate([train.targets, valid.targets])
    want = design[70:] @ np.linalg.lstsq(design[:70], y, rcond=None)[0]
    seen = [design[:70].any(0)[np.flatnonzero(row)].all() for row in design[70:]]
    assert sum(seen) > 20
    found = additive_means(train, valid, test, 0)
    np.testing.assert_allclose(found[seen], want[seen], atol=1e-4)


def test_kronecker_ridge_is_the_kernel_regression_on_all_pairs(parts):
    """So few pairs that conjugate gradients end: no validation part stops them."""
    pytest.importorskip("rdkit")
    from biofm_jax.evaluate.molecules import ecfp4

    train, test = parts[0].at(np.arange(20)), parts[2].at(np.arange(9))
    none = parts[1].at(np.arange(0))
    found = kronecker_ridge(train, none, test.without_targets(), 0)
    texts = [text.split(" ") for part in (train, test) for text in part.texts]
    drugs, proteins = zip(*texts)
    kernel = tanimoto(ecfp4(drugs)) * kmer_cosine(proteins)
    y = train.targets[:, 0]
    weights = np.linalg.solve(kernel[:20, :20] + RIDGE * np.eye(20), y - y.mean())
    np.testing.assert_allclose(found[:, 0], y.mean() + kernel[20:, :20] @ weights, atol=1e-5)
    stopped = kronecker_ridge(train, parts[1], test.without_targets(), 0)
    assert np.abs(stopped - found).max() > 1e-3
