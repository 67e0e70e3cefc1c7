import json

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.molecule import random_smiles
from biofm_jax.data.molecule_graph import (
    ATOM_FEATURES,
    BOND_FEATURES,
    ELEMENTS,
    AtomTokenizer,
    MoleculeGraphData,
    molecule_graph,
)
from biofm_jax.errors import UserError

DRUGS = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "C[C@H](N)C(=O)O",
    "F/C=C/Cl",
    "C[N+](C)(C)CC(=O)[O-]",
    "[Na+].O=C([O-])c1ccccc1",
    "C#Cc1ccc2[nH]cc(CCN)c2c1",
)


def test_tokens_are_elements_by_atomic_number():
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    vocabulary = AtomTokenizer().vocabulary
    assert len(ELEMENTS.split()) == 118
    for number in range(1, 119):
        assert vocabulary.tokens[vocabulary.regular[number]] == table.GetElementSymbol(number)
    assert AtomTokenizer().decode(AtomTokenizer().encode("Clc1ccccc1")) == "ClCCCCCC"


def test_a_small_molecule_by_hand():
    """Alanine, a sodium salt beside it: six atoms, five bonds, one ion without any."""
    graph = molecule_graph("C[C@H](N)C(=O)O.[Na+]")
    symbols = [AtomTokenizer().vocabulary.tokens[i] for i in graph.ids]
    assert symbols == ["C", "C", "N", "C", "O", "O", "Na"]
    # R/S, charge + 3, aromatic, hydrogens, degree
    assert graph.features[1].tolist() == [2, 3, 0, 1, 3]  # L-alanine is S
    assert graph.features[6].tolist() == [0, 4, 0, 0, 0]
    assert graph.edges.tolist() == [
        [0, 1], [1, 0], [1, 2], [2, 1], [1, 3], [3, 1], [3, 4], [4, 3], [3, 5], [5, 3]
    ]  # fmt: skip
    assert graph.bonds[:, 0].tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 1, 1]


@pytest.mark.parametrize("text", DRUGS)
def test_another_spelling_is_the_same_graph(text):
    """Atoms change places; the multiset of atoms with their neighbours does not."""

    def known(graph):
        atoms = [(int(i), *f) for i, f in zip(graph.ids, graph.features.tolist())]
        bonds = [
            (atoms[one], tuple(kind), atoms[other])
            for (one, other), kind in zip(graph.edges.tolist(), graph.bonds.tolist())
        ]
        return sorted(atoms), sorted(bonds)

    for other in random_smiles(text, 5):
        assert known(molecule_graph(other)) == known(molecule_graph(text))


def test_stereo_tells_isomers_apart():
    z, e = molecule_graph("F/C=C\\F"), molecule_graph("F/C=C/F")
    assert z.bonds[:, 1].max() == 2 and e.bonds[:, 1].max() == 3
    r, s = molecule_graph("C[C@@H](N)C(=O)O"), molecule_graph("C[C@H](N)C(=O)O")
    assert (r.features[1, 0], s.features[1, 0]) == (1, 2)


def test_features_stay_within_their_classes():
    odd = "[Ca+4].[Fe-5].*CC*.[H][H].C1=CC2CC1C=C2.FS(F)(F)(F)(F)F.[SiH4].F[As-](F)(F)(F)(F)F"
    graph = molecule_graph(odd)
    assert (graph.features < np.array(ATOM_FEATURES)).all()
    assert (graph.bonds >= 1).all() and (graph.bonds <= np.array(BOND_FEATURES)).all()
    assert graph.ids.max() < AtomTokenizer().vocabulary.size


@pytest.mark.parametrize(
    "text, reason",
    [("C1CC", "rdkit rejects"), ("CC>>CO", "rdkit rejects"), ("", "rdkit rejects")],
)
def test_bad_molecules_are_named(text, reason):
    with pytest.raises(BadText, match=reason):
        molecule_graph(text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def clique() -> str:
    """Five tin atoms, each bound to all others: ten bonds, and 7.5 fit."""
    return "[Sn]123[Sn]45[Sn]16[Sn]24[Sn]356"


def test_a_file_becomes_a_store(folder):
    path = folder / "drugs.smi"
    path.write_text("".join(f"{text} drug{i}\n" for i, text in enumerate((*DRUGS, clique()))))
    data = MoleculeGraphData(path=str(path), max_tokens=16, segments=2, holdout=0.0, tolerance=0.2)
    store = data.open()
    assert len(store) == len(DRUGS)
    (bad,) = map(json.loads, (data.prepared().folder / "bad_records.jsonl").open())
    assert bad["line"] == 7 and "10 bonds of 5 atoms" in bad["reason"]
    (notes,) = data.prepared().folder.glob("graphs-*/store.json")
    notes = json.loads(notes.read_text())
    assert notes["several_components"] == 1 and notes["components"] == "kept"
    batch = next(data.batches(store, batch_size=4, seed=0))
    shapes = data.shapes(4)
    assert batch.graph.features.shape == shapes.graph.features.shape
    assert batch.graph.edges.shape == shapes.graph.edges.shape
    assert batch.graph.bonds.shape == shapes.graph.bonds.shape
    short = MoleculeGraphData(path=str(path), max_tokens=8, tolerance=0.2)
    with pytest.raises(UserError, match=r"drug\d, 14; a graph cannot be cut.*--data.max-tokens 16"):
        short.open()


def test_views_are_of_the_device():
    with pytest.raises(UserError, match="MolCLR"):
        MoleculeGraphData(views=2)
