"""What each atom adds to the output of a model of graphs, and its picture."""

import numpy as np
import pytest
from toy_batches import parameters

pytest.importorskip("rdkit")

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.molecule_graph import ATOM_FEATURES, AtomTokenizer, MoleculeGraphData
from biofm_jax.errors import UserError
from biofm_jax.interpret.molecule_picture import molecule_figure
from biofm_jax.interpret.tokens import read_text, token_attributions
from biofm_jax.models.graph import GraphSpec

VOCABULARY = AtomTokenizer().vocabulary
SPEC = GraphSpec(
    VOCABULARY.size, ATOM_FEATURES, layers=1, width=16, mask=VOCABULARY.mask, init_std=0.3
)
ENCODER = Encoder("toy", SPEC, MoleculeGraphData(max_tokens=32), parameters(SPEC))


def test_equal_atoms_add_the_same_and_all_add_up():
    text = read_text(ENCODER, "OC(=O)CC(=O)O")  # malonic acid: two halves that are alike
    assert text.tokens == tuple(letter for letter in text.written if letter.isalpha())
    weights = np.random.default_rng(0).normal(size=16).astype(np.float32)

    def output(outputs):
        return outputs.pooled[0, 0] @ weights

    found, gap = token_attributions(ENCODER, text, output)
    assert found.shape == (7,) and abs(gap) < 0.02 * abs(found.sum())
    by_value = np.sort(np.round(found, 4))
    pairs = np.abs(np.subtract.outer(by_value, by_value)) < 1e-3
    assert pairs.sum(1).tolist().count(2) >= 6 and np.ptp(found) > 1e-3


def test_a_molecule_is_drawn_in_the_colours_of_its_atoms():
    values = np.array([1.0, -1.0, 0.0])
    figure = molecule_figure("CCO", values, "unit", 4.6, "RdBu_r")
    pixels = figure.axes[0].images[0].get_array()[:, :, :3]
    red, blue = (pixels[:, :, i] - pixels[:, :, 2 - i] > 0.2 for i in (0, 2))
    assert red.sum() > 500 and blue.sum() > 500
    with pytest.raises(UserError, match="4 atoms"):
        molecule_figure("CCO", np.zeros(4), "unit", 4.6, "RdBu_r")
