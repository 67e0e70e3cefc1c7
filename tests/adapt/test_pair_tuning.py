"""Two models that are trained together with a head on their pairs."""

import dataclasses

import jax
import numpy as np
import pytest
from toy_batches import parameters

pytest.importorskip("rdkit")

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.pair_probe import PairEncoder
from biofm_jax.adapt.pair_tuning import tuned_pair_adapter
from biofm_jax.data.in_memory import example_rows
from biofm_jax.data.molecule_graph import (
    ATOM_FEATURES,
    BOND_FEATURES,
    AtomTokenizer,
    MoleculeGraphData,
)
from biofm_jax.data.pair_blocks import PairBlocks, ShuffledBlocks
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.pair_head import PairHeadSpec, PairTowersSpec
from biofm_jax.models.transformer import TransformerSpec

GRAPH = GraphSpec(
    vocabulary=AtomTokenizer().vocabulary.size,
    features=ATOM_FEATURES,
    bonds=BOND_FEATURES,
    layers=1,
    width=12,
    init_std=0.3,
)
TEXT = TransformerSpec(layers=1, width=16, heads=2, init_std=0.2)
DRUGS = ["C" * n + end for n in range(1, 5) for end in ("O", "N", "Cl")]
PROTEINS = ["MKT" + letter * n for n in (2, 9) for letter in "WGE"]


@pytest.fixture(scope="module")
def pair():
    drug = Encoder("graphs", GRAPH, MoleculeGraphData(max_tokens=64), parameters(GRAPH))
    return PairEncoder(drug, Encoder("texts", TEXT, ProteinData(max_tokens=64), parameters(TEXT)))


def blocks(pair, labels, p=4, q=2) -> PairBlocks:
    rows = []
    for encoder, texts, size in ((pair.drug, DRUGS, p), (pair.target, PROTEINS, q)):
        rows.append(example_rows(encoder.tokenize(texts), encoder.data.vocabulary, 64, 1, size))
    return PairBlocks(*rows, labels)


def table(seed=0):
    """(12, 6, 1) labels, a third of them not measured; nothing of drug 3 and of protein 1."""
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(12, 6, 1)).astype(np.float32)
    labels[rng.random((12, 6)) < 0.3] = np.nan
    labels[3], labels[:, 1] = np.nan, np.nan
    return labels


def test_a_block_has_the_labels_of_its_rows_and_columns(pair):
    labels = table()
    made = blocks(pair, labels)
    seen = np.zeros((12, 6), int)
    for _, batch in zip(range(60), ShuffledBlocks(made, seed=1)):
        i, j = batch.examples[:, 0], batch.pair.examples[:, 0]
        want = labels[np.ix_(i, j)]
        np.testing.assert_array_equal(batch.weights, ~np.isnan(want))
        np.testing.assert_array_equal(batch.targets, np.nan_to_num(want))
        assert batch.weights.any((1, 2)).all() and 3 not in i and 1 not in j
        seen[np.ix_(i, j)] += 1
    assert (seen[~np.isnan(labels[..., 0])] > 0).all()
    tiles = made.fullest(100)
    assert sum(tile.weights.sum() for tile in tiles) == (~np.isnan(labels)).sum()
    assert len(made.fullest(2)) == 2
    part = made.block(np.array([2]), np.array([0]))
    assert part.examples[:, 0].tolist() == [2, -1, -1, -1] and part.weights[1:].sum() == 0


def test_a_label_is_of_its_pair_whatever_else_stands_in_the_block(pair):
    head = PairHeadSpec(12, 16, width=8)
    scales = tuple(tuple(np.full(n, value).tolist() for n in (12, 16)) for value in (0.1, 2.0))
    model = PairTowersSpec(GRAPH, TEXT, head, *scales).build()
    model = dataclasses.replace(
        model, apply=jax.jit(model.apply, static_argnames="train"), init=jax.jit(model.init)
    )
    params = model.init(jax.random.key(0), None)
    made = blocks(pair, table())
    whole = model.apply(params, made.block(np.arange(4), np.array([5, 2])))
    assert whole.logits.shape == (4, 2, 1)
    other = model.apply(params, made.block(np.array([7, 3, 9]), np.array([2, 0])))
    np.testing.assert_allclose(whole.logits[3, 1], other.logits[1, 0], atol=1e-5)
    tables = {"first": whole.pooled[:, 0], "second": whole.pair.pooled[:, 0]}
    from biofm_jax.data.pair_batches import Pairs

    asked = Pairs(np.array([[3, 1], [0, 0]], np.int32), np.zeros((2, 1), np.float32))
    alone = head.build().apply({"head": params["head"], "tables": tables}, next(asked.once(2)))
    np.testing.assert_allclose(
        alone.logits[:, 0], [whole.logits[3, 1], whole.logits[0, 0]], atol=1e-5
    )
    assert jax.tree.structure(model.axes(params), is_leaf=lambda x: isinstance(x, tuple)) == (
        jax.tree.structure(params)
    )


@pytest.mark.slow
def test_both_models_learn_what_frozen_ones_would_have_to_guess(pair):
    pairs = [(d, p) for d in DRUGS for p in PROTEINS]
    labels = [d.count("C") * (1 if "W" in p else -1) + len(p) / 9.0 for d, p in pairs]
    items = Labelled(
        tuple(map(str, range(len(pairs)))),
        tuple(f"{d} {p}" for d, p in pairs),
        np.array(labels)[:, None],
    )
    order = np.random.default_rng(0).permutation(len(pairs))
    train, test = items.at(order[:54]), items.at(order[54:])
    none = items.at(np.arange(0))
    spec = FinetuneSpec(epochs=40, rows=3, learning_rate=5e-3, dropout=0.0)
    features = pair.features(None, None)
    adapter = tuned_pair_adapter(pair, features, spec, show=False)
    found = adapter(train, none, test.without_targets(), 0)
    assert np.mean((found - test.targets) ** 2) < 0.2 * test.targets.var()
    with pytest.raises(UserError, match="layer_decay"):
        tuned_pair_adapter(pair, features, dataclasses.replace(spec, layer_decay=0.9))
