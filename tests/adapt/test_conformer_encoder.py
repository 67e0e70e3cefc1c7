"""A model of molecules in space as an encoder of texts."""

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.molecule_conformer import ConformerData
from biofm_jax.errors import UserError
from biofm_jax.models.pair_transformer import PairTransformerSpec

ENCODER = Encoder(
    "toy", PairTransformerSpec(layers=2, width=8, heads=2, kernels=3, init_std=0.3), ConformerData()
)
TEXTS = ["CCO", "CC(=O)Oc1ccccc1C(=O)O", "OCC"]
IMPOSSIBLE = "C1C[C@]2(F)CC[C@]1(Cl)C2"


def test_a_vector_depends_on_its_molecule_alone_whatever_its_spelling():
    together = ENCODER.features(0)(TEXTS)
    assert together.shape == (3, 8) and np.abs(together[0] - together[1]).max() > 1e-3
    np.testing.assert_array_equal(together[0], together[2])
    np.testing.assert_allclose(ENCODER.features(0)(TEXTS[1:2])[0], together[1], atol=1e-5)
    early = ENCODER.features(0, pooling="mean", layer=1)(TEXTS)
    assert early.shape == (3, 8) and np.abs(early - together).max() > 1e-3


def test_a_text_without_coordinates_is_named_or_flat():
    with pytest.raises(UserError, match=r"text 2, .*finds no coordinates"):
        ENCODER.tokenize(["CCO", IMPOSSIBLE])
    flat = Encoder("toy", ENCODER.spec, ConformerData(flat=True))
    assert len(flat.tokenize([IMPOSSIBLE])[0]) == 11
