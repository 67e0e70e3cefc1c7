"""A graph network as what adaptation starts from."""

import numpy as np
import pytest
from toy_batches import parameters

pytest.importorskip("rdkit")

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.finetune import FinetuneSpec
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.tuning import tuned_adapter
from biofm_jax.data.molecule import random_smiles
from biofm_jax.data.molecule_graph import (
    ATOM_FEATURES,
    BOND_FEATURES,
    AtomTokenizer,
    MoleculeGraphData,
)
from biofm_jax.errors import UserError
from biofm_jax.models.graph import GraphSpec

TEXTS = ["CCO", "c1ccccc1O", "C[C@H](N)C(=O)O", "CC(=O)[O-].[Na+]", "F/C=C/Cl", "C" * 90]
SPEC = GraphSpec(
    vocabulary=AtomTokenizer().vocabulary.size,
    features=ATOM_FEATURES,
    bonds=BOND_FEATURES,
    layers=2,
    width=16,
    init_std=0.3,
)


@pytest.fixture(scope="module")
def encoder():
    return Encoder("toy", SPEC, MoleculeGraphData(max_tokens=64, segments=4), parameters(SPEC))


def test_features_are_of_the_molecule_not_of_its_spelling(encoder):
    features = encoder.features(0)
    want = features(TEXTS)
    assert want.shape == (6, 16)
    respelled = [random_smiles(text, 3)[-1] for text in TEXTS]
    assert respelled != TEXTS
    np.testing.assert_allclose(features(respelled), want, atol=1e-5)
    np.testing.assert_allclose(features(TEXTS[:2]), want[:2], atol=1e-5)
    mirrored = features(["C[C@@H](N)C(=O)O"])
    assert np.abs(mirrored - want[2]).max() > 1e-3


def test_a_molecule_longer_than_the_rows_of_pretraining_is_read_whole(encoder):
    assert encoder.row_tokens(encoder.tokenize(TEXTS)) == 128


def test_a_layer_is_the_model_cut_above_it(encoder):
    last, first, atoms = (encoder.features(0, layer=layer)(TEXTS) for layer in (2, 1, 0))
    np.testing.assert_allclose(last, encoder.features(0)(TEXTS), atol=1e-6)
    assert np.abs(first - last).max() > 1e-2 and np.abs(atoms - first).max() > 1e-2
    with pytest.raises(UserError, match="layer 3"):
        encoder.features(0, layer=3)


def test_a_bad_molecule_is_named(encoder):
    with pytest.raises(UserError, match="text 2, 'C1CC'"):
        encoder.tokenize(["CC", "C1CC"])


@pytest.mark.slow
def test_finetuning_learns_the_length_of_a_chain(encoder):
    texts = ["C" * n + end for n in range(2, 14) for end in ("O", "N", "Cl")]
    targets = np.array([[text.count("C") - text.count("Cl")] for text in texts], float)
    part = Labelled(tuple(texts), tuple(texts), targets)
    none = Labelled((), (), np.zeros((0, 1)))
    spec = FinetuneSpec(epochs=1, rows=2, learning_rate=1e-2, dropout=0.0)
    predicted = tuned_adapter(encoder, spec, "number", show=False)(part, none, part, 0)
    assert np.mean((predicted - targets) ** 2) < 0.5 * targets.var()
