"""MolGPT's published lists of tokens: their ids, and what they cannot write."""

import json

import numpy as np
import pytest

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.published_tokenizers import copy_tokenizer, load_tokenizer
from biofm_jax.errors import UserError

LISTED = "# ( ) - 1 2 3 4 5 6 < = Br C Cl F N O S [H] [SH] [nH] c n o s"
MOSES = LISTED.split()
SMILES = {
    "CCO": "C C O",
    "Clc1ccc(Br)cc1": "Cl c 1 c c c ( Br ) c c 1",
    "c1c[nH]c2ccccc12": "c 1 c [nH] c 2 c c c c c 1 2",
    "N#CC(=O)NS[H]": "N # C C ( = O ) N S [H]",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "moses2_stoi.json").write_text(json.dumps({t: i for i, t in enumerate(MOSES)}))
    return tmp_path


def test_ids_are_those_of_the_list_and_the_filler_ends_a_molecule(folder):
    tokenizer = load_tokenizer(folder)
    flat, offsets = tokenizer.encode_many(list(SMILES))
    for (smiles, cut), start, end in zip(SMILES.items(), offsets[:-1], offsets[1:], strict=True):
        want = [MOSES.index(token) for token in (*cut.split(), "<")]
        assert flat[start:end].tolist() == want == tokenizer.encode(smiles).tolist()
        assert tokenizer.decode(np.array(want)) == smiles
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.pad, vocabulary.eos, vocabulary.cls, vocabulary.unk) == (10, 10, -1, -1)
    assert MoleculeData(tokenizer_path=str(folder)).tokenizer() is tokenizer
    assert copy_tokenizer(folder, folder / "copy") == ("moses2_stoi.json",)
    assert load_tokenizer(folder / "copy").fingerprint() == tokenizer.fingerprint()


def test_what_it_has_no_token_for_is_named(folder):
    with pytest.raises(UserError, match=r"'CC\[Na\+\]': '\[Na\+\]' is none of MolGPT's 26"):
        load_tokenizer(folder).encode("CC[Na+]")


def test_a_bad_list_is_refused(folder):
    (folder / "guacamol2_stoi.json").write_text("{}")
    with pytest.raises(UserError, match="name a folder with one"):
        load_tokenizer(folder)
    (folder / "moses2_stoi.json").unlink()
    with pytest.raises(UserError, match="no list of MolGPT's tokens"):
        load_tokenizer(folder)
    (folder / "guacamol2_stoi.json").write_text(json.dumps({"<": 0, "C": 2}))
    with pytest.raises(UserError, match="no list of MolGPT's tokens"):
        load_tokenizer(folder)
