"""Embeddings of a file of molecules by a model of graphs."""

import numpy as np
import pytest
from toy_batches import parameters

pytest.importorskip("rdkit")

from biofm_jax import cli
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.molecule_graph import AtomTokenizer, MoleculeGraphData, molecule_graph
from biofm_jax.embed.tables import read_embeddings
from biofm_jax.models.graph import GraphSpec

TEXTS = ["CCO", "c1ccccc1O", "C", "CC(=O)[O-].[Na+]", "F/C=C/Cl", "C" * 90]
SPEC = GraphSpec(AtomTokenizer().vocabulary.size, layers=2, width=16, init_std=0.3)
ENCODER = Encoder("toy", SPEC, MoleculeGraphData(max_tokens=32, segments=4), parameters(SPEC))


@pytest.fixture
def embed(monkeypatch, tmp_path):
    """Runs the command on a file of `TEXTS`; ids and columns."""
    monkeypatch.setattr("biofm_jax.embed.command.load_encoder", lambda name: ENCODER)
    source = tmp_path / "molecules.smi"
    source.write_text("".join(f"{text} m{i}\n" for i, text in enumerate(TEXTS)))

    def run(*options):
        out = tmp_path / "out.parquet"
        assert cli.main(["embed", "toy", str(source), str(out), *options]) == 0
        return read_embeddings(out) if out.exists() else None

    return run


def test_a_file_gets_what_features_gives_layer_by_layer(embed):
    ids, columns = embed("--layers", "0", "2", "1")
    assert ids == [f"m{i}" for i in range(len(TEXTS))]
    for name, found in columns.items():
        layer = int(name.removeprefix("embedding_layer_"))
        np.testing.assert_allclose(found, ENCODER.features(0, layer=layer)(TEXTS), atol=1e-5)


def test_tokens_are_atoms_and_no_molecule_is_cut(embed):
    assert embed("--dry-run", "True") is None
    _, columns = embed("--pooling", "tokens", "--long", "error")
    for text, found, mean in zip(TEXTS, columns["embedding"], ENCODER.features(0)(TEXTS)):
        states = np.reshape(found, (-1, SPEC.width))
        assert len(states) == len(molecule_graph(text))
        np.testing.assert_allclose(states.mean(0), mean, atol=1e-5)
