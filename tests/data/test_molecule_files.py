import gzip

import numpy as np
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem

from biofm_jax.data.bad_records import BadRecords
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_files import read_molfiles, selfies_to_smiles
from biofm_jax.data.readers import read_records
from biofm_jax.errors import UserError

# Two stereo centres, a double bond, a charge and a ring.
SMILES = ("C[C@H](N)C(=O)O", "C/C=C\\CC", "C[N+](C)(C)CC(=O)[O-]", "C[C@@]1(O)CCCC[C@H]1Br")


def blocks(spatial: bool, v3000: bool = False) -> str:
    from rdkit.Chem import AllChem

    parts = []
    for number, smiles in enumerate(SMILES):
        molecule = Chem.MolFromSmiles(smiles)
        if spatial:
            molecule = Chem.AddHs(molecule)
            assert AllChem.EmbedMolecule(molecule, randomSeed=1) == 0
        else:
            AllChem.Compute2DCoords(molecule)
        molecule.SetProp("_Name", f"m{number}" if number else "")
        block = Chem.MolToMolBlock(molecule, forceV3000=v3000)
        parts.append(f"{block}> <CAS> (1)\n50-{number}\n\n> <NOTE>\ntwo\nlines\n\n$$$$\n")
    return "".join(parts)


@pytest.mark.parametrize("v3000", [False, True])
@pytest.mark.parametrize("spatial", [False, True])
def test_molecules_come_back_with_their_stereochemistry(tmp_path, spatial, v3000):
    path, bad = tmp_path / "x.sdf.gz", BadRecords("x")
    text = blocks(spatial, v3000)
    path.write_bytes(gzip.compress(text.encode()))
    found = list(read_molfiles(path, bad))
    assert not bad.records
    assert [each.smiles for each in found] == [Chem.CanonSmiles(smiles) for smiles in SMILES]
    assert [each.title for each in found] == ["", "m1", "m2", "m3"]
    assert found[1].fields == {"CAS": "50-1", "NOTE": "two\nlines"}
    lines = text.splitlines()
    assert [lines[each.line - 2] for each in found[1:]] == ["$$$$"] * 3
    assert [record.id for record in read_records(path, "molecule", bad)] == ["1", "m1", "m2", "m3"]
    ids = [record.id for record in read_records(path, "molecule", bad, id_column="CAS")]
    assert ids == ["50-0", "50-1", "50-2", "50-3"]
    if not spatial:
        assert all(each.coordinates is None for each in found)
        return
    for each in found:
        molecule = Chem.MolFromSmiles(each.smiles)
        assert each.coordinates.shape == (molecule.GetNumAtoms(), 3)
        # Atoms are in the order of the SMILES: its bonds are as long as bonds are.
        for bond in molecule.GetBonds():
            ends = each.coordinates[[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]]
            assert 1.1 < np.linalg.norm(ends[0] - ends[1]) < 2.1


def test_a_mol_file_is_one_molecule_and_the_data_spec_reads_it(tmp_path):
    path = tmp_path / "x.mol"
    path.write_text(Chem.MolToMolBlock(Chem.MolFromSmiles("OCC")))
    store = MoleculeData(path=str(path)).open()
    assert len(store) == 1 and store.lengths()[0] == 5


PENTAVALENT = """bad

  made by hand
  6  5  0  0  0  0            999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.0000    0.0000    0.0000 F   0  0
   -1.0000    0.0000    0.0000 F   0  0
    0.0000    1.0000    0.0000 F   0  0
    0.0000   -1.0000    0.0000 F   0  0
    1.0000    1.0000    0.0000 F   0  0
  1  2  1  0
  1  3  1  0
  1  4  1  0
  1  5  1  0
  1  6  1  0
M  END
$$$$
"""


def test_bad_molecules_are_named_by_line_and_reason(tmp_path):
    good = Chem.MolToMolBlock(Chem.MolFromSmiles("CO"))
    empty = Chem.MolToMolBlock(Chem.MolFromSmiles(""))
    path = tmp_path / "x.sdf"
    path.write_text(f"{good}$$$$\n{PENTAVALENT}{empty}$$$$\n" + "\n".join(good.splitlines()[:-2]))
    bad = BadRecords(str(path))
    assert [each.smiles for each in read_molfiles(path, bad)] == ["CO"]
    start = len(good.splitlines()) + 2
    assert bad.records[0].line == start and len(bad.records) == 3
    reasons = [record.reason for record in bad.records]
    assert "valence for atom # 0 C, 5" in reasons[0] and "no atoms" in reasons[1]
    assert "M  END is missing" in reasons[2]
    with pytest.raises(UserError, match="3 of 4 records are bad"):
        MoleculeData(path=str(path)).open()


def test_selfies_are_read_from_lines_and_columns(tmp_path):
    pytest.importorskip("selfies")
    assert selfies_to_smiles("[C][C][O]") == "CCO"
    lines, column = tmp_path / "x.selfies", tmp_path / "x.csv"
    lines.write_text("[C][C][O] ethanol\n[C][X]\n[C][=C][C][=C][C][=C][Ring1][=Branch1]\n")
    column.write_text("id,selfies\na,[C][C][O]\nb,CCO\n")
    bad = BadRecords("x")
    found = [(r.line, r.id, r.text) for r in read_records(lines, "molecule", bad)]
    assert found == [(1, "ethanol", "CCO"), (3, "3", "C1=CC=CC=C1")]
    assert bad.records[0].line == 2 and "no SELFIES: '[C][X]'" in bad.records[0].reason
    assert [r.text for r in read_records(column, "molecule", bad)] == ["CCO"]
    assert bad.records[1].line == 3 and "'CCO'" in bad.records[1].reason
    assert len(MoleculeData(path=str(lines), tolerance=0.4).open()) == 2


def test_without_selfies_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "selfies", None)
    with pytest.raises(UserError, match=r"pip install 'biofm_jax\[molecule\]'"):
        selfies_to_smiles("[C]")
