"""Molecules in space: rdkit's coordinates, what is a bad record, stores and batches."""

import json

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.molecule_conformer import ConformerData, conformer
from biofm_jax.errors import UserError

DRUGS = ("CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)O", "[Na+].O=C([O-])c1ccccc1", "CCO", "[HH]")
# Norbornane whose bridge would join the two faces of its ring.
IMPOSSIBLE = "C1C[C@]2(F)CC[C@]1(Cl)C2"


def test_the_published_dictionary():
    """Of unimol/example_data/molecule/dict.txt, with the mask that its task adds."""
    vocabulary = ConformerData().vocabulary
    assert vocabulary.size == 31
    known = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "C": 4, "H": 8, "Li": 29, "[MASK]": 30}
    assert {token: vocabulary.tokens.index(token) for token in known} == known
    assert (vocabulary.pad, vocabulary.cls, vocabulary.eos, vocabulary.unk) == (0, 1, 2, 3)
    assert vocabulary.regular == tuple(range(4, 30)) and vocabulary.mask == 30


@pytest.mark.parametrize("text", DRUGS)
def test_coordinates_are_a_molecule_in_space(text):
    from rdkit import Chem

    made, molecule = conformer(text), Chem.MolFromSmiles(text)
    vocabulary = ConformerData().vocabulary
    symbols = [vocabulary.tokens[i] for i in made.ids[1:-1]]
    assert symbols == [a.GetSymbol() for a in molecule.GetAtoms()][: len(symbols)]
    assert made.coordinates.shape == (len(made), 3) and made.coordinates.dtype == np.float32
    np.testing.assert_array_equal(made.coordinates[[0, -1]], 0.0)
    np.testing.assert_allclose(made.coordinates[1:-1].mean(0), 0.0, atol=1e-5)
    for bond in molecule.GetBonds():
        ends = made.coordinates[[1 + bond.GetBeginAtomIdx(), 1 + bond.GetEndAtomIdx()]]
        assert text == "[HH]" or 1.1 < np.linalg.norm(ends[0] - ends[1]) < 1.7  # angstrom


def test_the_seed_decides_and_hydrogens_are_kept_where_wanted():
    text = DRUGS[0]
    first = conformer(text).coordinates
    conformer.cache_clear()
    np.testing.assert_array_equal(conformer(text).coordinates, first)
    assert np.abs(conformer(text, seed=7).coordinates - first).max() > 0.1
    full = conformer(text, hydrogens=True)
    assert len(full) == len(first) + 8 and (full.ids == 8).sum() == 8


def test_a_molecule_without_coordinates_is_a_bad_record_or_flat():
    with pytest.raises(BadText, match="finds no coordinates in space"):
        conformer(IMPOSSIBLE)
    with pytest.raises(BadText, match="rejects the SMILES"):
        conformer("C1CC")
    flat = conformer(IMPOSSIBLE, flat=True)
    assert len(flat) == 11 and np.all(flat.coordinates[:, 2] == 0.0)


def test_a_file_becomes_batches_with_coordinates(tmp_path, monkeypatch):
    path = tmp_path / "molecules.smi"
    path.write_text("".join(f"{smiles} m{i}\n" for i, smiles in enumerate([*DRUGS, "C[Xe]"])))
    options = dict(path=str(path), max_tokens=32, segments=4, holdout=0.0)
    data = ConformerData(**options)
    store = data.open()
    assert len(store) == 6
    batch = next(data.batches(store, batch_size=2, seed=0))
    shapes = data.shapes(2)
    assert batch.coordinates.shape == shapes.coordinates.shape == (2, 32, 3)
    for row, slot in np.argwhere(batch.examples >= 0):
        number, mine = batch.examples[row, slot], batch.segment_ids[row] == slot + 1
        own = slice(store.offsets[number], store.offsets[number + 1])
        np.testing.assert_array_equal(batch.tokens[row, mine], store.ids[own])
        np.testing.assert_array_equal(batch.coordinates[row, mine], store.coordinates[own])
    assert np.all(batch.coordinates[batch.segment_ids == 0] == 0.0)
    (notes,) = (tmp_path / "cache").rglob("conformers-*/store.json")
    assert json.loads(notes.read_text()) == {
        "format": 1, "several_components": 1, "unknown_elements": 1, "flat": 0
    }  # fmt: skip
    # Opened again, nothing is embedded.
    monkeypatch.setattr("biofm_jax.data.molecule_conformer.conformer", None)
    assert ConformerData(**options).open().digest() == store.digest()


def test_bad_and_long_molecules_are_named(tmp_path):
    path = tmp_path / "molecules.smi"
    path.write_text(f"CCO a\n{IMPOSSIBLE} b\n{'C' * 40} c\n")
    with pytest.raises(UserError, match="1 of 3 records are bad"):
        ConformerData(path=str(path), holdout=0.0).open()
    with pytest.raises(UserError, match=r"the largest, c, 40; .*--data.max-tokens 64"):
        ConformerData(path=str(path), max_tokens=16, holdout=0.0, flat=True).open()
    with pytest.raises(UserError, match=r"data\.seed is -1"):
        ConformerData(seed=-1)
