import dataclasses

import numpy as np
import pytest

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_characters import CharacterMoleculeData, smiles_characters
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.specs import decode, encode

SMILES = ["C[C@@H](Cl)c1ccc(Br)cc1", "[Na+].[O-]C(=O)/C=C\\C", "c1cc2ccccc2[nH]1", "C%12CC%12"]


@pytest.mark.parametrize("smiles", SMILES)
def test_a_character_is_a_token(smiles):
    tokenizer = smiles_characters()
    ids = tokenizer.encode(smiles)
    vocabulary = tokenizer.vocabulary
    assert len(ids) == len(smiles) + 2
    assert [vocabulary.tokens[i] for i in ids[1:-1]] == list(smiles)
    assert (ids[0], ids[-1]) == (vocabulary.cls, vocabulary.eos)
    assert tokenizer.decode(ids) == smiles


def test_case_tells_aromatic_atoms_from_others():
    ids = smiles_characters().encode("Cc")[1:-1]
    assert ids[0] != ids[1]


def test_every_character_of_the_atom_tokens_is_known():
    text = "".join(t for t in SmilesTokenizer().vocabulary.tokens if not t.startswith("<"))
    assert smiles_characters().vocabulary.unk not in smiles_characters().encode(text)
    np.testing.assert_array_equal(smiles_characters().encode("é "), [0, 3, 3, 2])


def test_it_is_a_molecule_data_of_its_own():
    data = CharacterMoleculeData(path="x.smi", max_tokens=64)
    assert data.kind == MoleculeData.kind and decode(encode(data)) == data
    plain = MoleculeData(path="x.smi", max_tokens=64)
    assert data.tokenizer().fingerprint() != plain.tokenizer().fingerprint()
    assert dataclasses.asdict(data) == dataclasses.asdict(plain)
