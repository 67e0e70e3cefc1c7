import builtins
import csv
import gzip
import io

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data import molecule
from biofm_jax.data.bad_records import BadText
from biofm_jax.data.molecule import (
    MoleculeData,
    canonical_smiles,
    quickstart_molecules,
    random_smiles,
    rdkit_data,
)
from biofm_jax.errors import UserError


@pytest.mark.parametrize(
    "text, kept",
    [
        ("OCC", "CCO"),
        ("[Na+].[O-]C(=O)C", "CC(=O)[O-].[Na+]"),
        ("C[C@H](N)C(=O)O", "C[C@H](N)C(=O)O"),
        ("F/C=C/F", "F/C=C/F"),
        ("[2H]C", "[2H]C"),
        ("C" * 5000, "C" * 5000),
    ],
)
def test_canonical_smiles_keep_salts_stereo_charges(text, kept):
    assert canonical_smiles(text) == kept


@pytest.mark.parametrize("text", ["C1CC", "c1cccc1", "C(C)(C)(C)(C)C", "hello", "[Na", ""])
def test_rejected_smiles_are_named_and_rdkit_is_silent(text, capfd):
    with pytest.raises(BadText, match="rdkit rejects") as error:
        canonical_smiles(text)
    assert repr(text) in str(error.value)
    assert capfd.readouterr().err == ""


def test_random_smiles_are_the_same_molecule_and_reproducible():
    text = "CC(=O)Nc1ccc(O)cc1"
    views = random_smiles(text, 8)
    assert views == random_smiles(text, 8) and len(set(views)) > 3
    assert {canonical_smiles(view) for view in views} == {text}


def test_without_rdkit_the_message_names_the_extra(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.startswith("rdkit"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    molecule.rdkit_chem.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'biofm_jax\[molecule\]'"):
        canonical_smiles("C")


def test_bad_molecules_of_a_table_are_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("smiles,y\nCCO,1\nC1CC,2\n\n,3\nCCN,4\n")
    with pytest.raises(UserError) as error:
        MoleculeData(path=str(path)).open()
    for words in ("line 3: rdkit rejects the SMILES 'C1CC'", "line 4: empty line", "line 5"):
        assert words in str(error.value)
    assert len(MoleculeData(path=str(path), tolerance=0.6).open()) == 2


def test_large_molecule_is_kept_and_windowed(tmp_path):
    path = tmp_path / "x.smi"
    path.write_text("C" * 2500 + "O" + "C" * 2499 + "\nCCO\n")
    data = MoleculeData(path=str(path), holdout=0.0, views=2)
    store = data.open()
    assert store.lengths().max() == 5002
    batch = next(data.batches(store, batch_size=2, seed=0))
    assert batch.tokens.shape == batch.pair.tokens.shape == (2, 256)


def test_pairs_are_two_spellings_of_one_molecule():
    data = MoleculeData(tolerance=0.01, views=3, max_tokens=128)
    store = data.open()
    assert store.views == 4
    batch = next(data.batches(store, batch_size=4, seed=0))
    decode, different = data.tokenizer().decode, 0
    for row, segment in zip(*np.nonzero(batch.examples >= 0)):
        first, second = (
            decode(view.tokens[row][view.segment_ids[row] == segment + 1])
            for view in (batch, batch.pair)
        )
        if len(first) < 100:
            assert canonical_smiles(first) == canonical_smiles(second)
        different += first != second
    assert different >= 0.8 * (batch.examples >= 0).sum()


def test_quickstart_molecules_match_their_labels():
    molecules = quickstart_molecules()
    assert len(molecules.ids) == len(molecules.smiles) == 4991
    assert molecules.labels.shape == (4991, 1) and molecules.labels.dtype == np.float32
    # Polar surface area of rdkit, another implementation of the same contributions.
    from rdkit import Chem
    from rdkit.Chem.rdMolDescriptors import CalcTPSA

    areas = [CalcTPSA(Chem.MolFromSmiles(smiles)) for smiles in molecules.smiles[:500]]
    assert np.corrcoef(areas, molecules.labels[:500, 0])[0, 1] > 0.97
    assert len(MoleculeData(tolerance=0.002).open()) == 4991
    with pytest.raises(UserError, match="no such file"):
        rdkit_data("none.smi")


def test_every_real_molecule_round_trips(biofm_data):
    tokenizer = MoleculeData().tokenizer()
    for name in ("tox21", "bace", "esol"):
        raw = gzip.decompress((biofm_data / f"drug/moleculenet/{name}.csv.gz").read_bytes())
        texts = [row[0] for row in csv.reader(io.StringIO(raw.decode()))][1:]
        flat, offsets = tokenizer.encode_many(texts)
        assert tokenizer.vocabulary.unk not in flat
        for i, text in enumerate(texts):
            assert tokenizer.decode(flat[offsets[i] : offsets[i + 1]]) == text
