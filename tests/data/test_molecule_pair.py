"""Molecules as graphs and SMILES in the same slots, and what a two-tower model asks of its data."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_graph import AtomTokenizer, MoleculeGraphData, molecule_graph
from biofm_jax.data.molecule_pair import MoleculePairData
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.errors import UserError
from biofm_jax.models.dual_encoder import DualEncoderSpec
from biofm_jax.models.graph import GraphSpec
from biofm_jax.models.heads import ProjectionHead
from biofm_jax.models.positions import Learned
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.contrastive import Contrastive

SMILES = ["OCC", "c1ccccc1O", "C[C@H](N)C(=O)O", "CC(=O)[O-].[Na+]", "F/C=C/Cl", "C" * 30, "CBr"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "some.smi").write_text("\n".join(SMILES) + "\n")
    path = str(tmp_path / "some.smi")
    return MoleculePairData(path=path, max_tokens=32, pair_tokens=40, segments=3, holdout=0.0)


def test_graph_and_smiles_of_a_slot_are_of_one_molecule(data):
    store, tokenizer = data.open(), SmilesTokenizer()
    batch = next(data.batches(store, batch_size=8, seed=0, epochs=1))
    shapes = data.shapes(8)
    assert [(x.shape, x.dtype) for x in jax_leaves(batch)] == [
        (x.shape, x.dtype) for x in jax_leaves(shapes)
    ]
    seen = 0
    for row, slot in np.argwhere(batch.examples >= 0):
        ids = batch.pair.tokens[row, batch.pair.segment_ids[row] == slot + 1]
        graph = molecule_graph(tokenizer.decode(ids))
        atoms = np.flatnonzero(batch.segment_ids[row] == slot + 1)
        np.testing.assert_array_equal(batch.tokens[row, atoms], graph.ids)
        np.testing.assert_array_equal(batch.graph.features[row, atoms], graph.features)
        edges = batch.graph.edges[row][batch.graph.bonds[row, :, 0] > 0]
        own = edges[np.isin(edges[:, 0], atoms)] - atoms[0]
        np.testing.assert_array_equal(own, graph.edges)
        seen += 1
    assert seen == len(SMILES) and batch.pair.graph is None


def jax_leaves(batch):
    import jax

    return jax.tree.leaves(batch)


def test_a_digest_is_of_both_views_and_an_order_goes_on(data):
    store = data.open()
    assert len(store.digest()) == 32 and store.digest()[:16] != store.digest()[16:]
    whole = data.batches(store, batch_size=2, seed=3)
    first, state = next(whole), whole.state()
    again = data.batches(store, batch_size=2, seed=3)
    again.restore(state)
    for one, other in zip(jax_leaves(next(whole)), jax_leaves(next(again)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.names(first)[0]


def test_what_does_not_go_together_is_named(data):
    text = TransformerSpec(
        vocabulary=SmilesTokenizer().vocabulary.size, head=ProjectionHead(), layers=1
    )
    graph = GraphSpec(vocabulary=AtomTokenizer().vocabulary.size)
    spec = DualEncoderSpec(graph, text)
    spec.check(data, (1, 1, 1, 1))
    for changes, given, context, field in (
        ({}, MoleculeGraphData(), 1, "MoleculePairData"),
        ({}, MoleculeData(views=2), 1, "MoleculePairData"),
        ({"second": dataclasses.replace(text, vocabulary=9)}, data, 1, "second.vocabulary"),
        (
            {"second": dataclasses.replace(text, positions=Learned(maximum=39))},
            data,
            1,
            "data.pair_tokens 40",
        ),
        ({}, data, 2, "mesh.context is 2"),
        ({"first": dataclasses.replace(text, vocabulary=121)}, data, 16, "data.pair_tokens 40"),
    ):
        with pytest.raises(UserError, match=field):
            dataclasses.replace(spec, **changes).check(given, (1, 1, 1, context))
    with pytest.raises(UserError, match=r"must divide model\.second\.heads 20"):
        spec.check(data, (1, 1, 3, 1))
    with pytest.raises(UserError, match=r"--model\.first\.vocabulary 121"):
        wide = dataclasses.replace(graph, vocabulary=200)
        dataclasses.replace(spec, first=wide).check(data, (1, 1, 1, 1))
    with pytest.raises(UserError, match="has no graph"):
        dataclasses.replace(spec, second=graph).check(data, (1, 1, 1, 1))
    with pytest.raises(UserError, match=r"model\.head=ProjectionHead"):
        Contrastive().check(spec, data)
    with pytest.raises(UserError, match="pair_tokens is 0"):
        dataclasses.replace(data, pair_tokens=0)
