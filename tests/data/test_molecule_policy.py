import json

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.inspection import inspect, prepare
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_graph import MoleculeGraphData
from biofm_jax.data.molecule_policy import MoleculePolicy
from biofm_jax.errors import UserError

STRICT = {"inorganic": "refuse", "polymers": "refuse", "duplicates": "refuse"}


@pytest.mark.parametrize(
    ("policy", "text", "kept"),
    [
        ({}, "[Na+].[O-]C(=O)C", "CC(=O)[O-].[Na+]"),
        ({"salts": "largest"}, "[Na+].[O-]C(=O)C", "CC(=O)[O-]"),
        # The organic component, though the other has more atoms.
        ({"salts": "largest"}, "CN.[Fe](Cl)(Cl)(Cl)Cl", "CN"),
        ({"salts": "largest"}, "C[C@H](N)C(=O)O", "C[C@H](N)C(=O)O"),
        ({"tautomers": "canonical"}, "Oc1ccccn1", "O=c1cccc[nH]1"),
        ({"tautomers": "canonical"}, "O=c1cccc[nH]1", "O=c1cccc[nH]1"),
        ({}, "Oc1ccccn1", "Oc1ccccn1"),
        ({}, "*CC*", "*CC*"),
        ({}, "[Na+].[Cl-]", "[Cl-].[Na+]"),
        (STRICT, "[2H]C(Cl)(Br)F", "[2H]C(F)(Cl)Br"),
    ],
)
def test_what_is_kept(policy, text, kept):
    assert MoleculePolicy(**policy).standardised(text) == kept
    assert MoleculePolicy(**policy).standardised(kept) == kept


@pytest.mark.parametrize(
    ("policy", "text", "reason", "fix"),
    [
        ({}, "C1CC", "rdkit rejects the SMILES 'C1CC'", "correct it"),
        ({}, "CC(=O)O.CCO>>CC(=O)OCC", "is a reaction", "reactants and products as rows"),
        ({}, "CC>[Pd]>CO", "is a reaction", "rows of their own"),
        ({"salts": "refuse"}, "CC(=O)[O-].[Na+]", "has 2 components", "policy.salts to largest"),
        ({"inorganic": "refuse"}, "[Na+].[Cl-]", "has no carbon", "policy.inorganic to keep"),
        ({"polymers": "refuse"}, "*CC*", "dummy atom", "policy.polymers to keep"),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(policy, text, reason, fix):
    with pytest.raises(BadText, match=reason) as error:
        MoleculePolicy(**policy).standardised(text)
    assert fix in error.value.fix


def test_an_unknown_policy_is_refused():
    with pytest.raises(UserError, match=r"data\.policy\.salts is 'strip'; choose one of keep"):
        MoleculePolicy(salts="strip")


TABLE = "smiles\nCCO\nC1CC\nCC>>CO\n[Na+].[Cl-]\nCC(=O)[O-].[Na+]\n*CC*\nOCC\nc1ccccc1\n"


def test_the_policy_is_recorded_and_every_refusal_names_its_line(tmp_path):
    path, out = tmp_path / "x.csv", tmp_path / "out"
    path.write_text(TABLE)
    policy = MoleculePolicy(salts="largest", **STRICT)
    with pytest.raises(UserError, match="5 of 8 records are bad"):
        prepare("molecule", str(path), out, policy=policy)
    made = prepare("molecule", str(path), out, policy=policy, tolerance=0.7)
    assert next(made.texts()) == ["CCO", "CC(=O)[O-]", "c1ccccc1"]
    bad = [json.loads(line) for line in (out / "bad_records.jsonl").read_text().splitlines()]
    assert [row["line"] for row in bad] == [3, 4, 5, 7, 8]
    assert "the record of line 2 is the same: 'CCO'" in bad[-1]["reason"]
    assert all(row["file"] == str(path) and row["fix"] for row in bad)
    metadata = json.loads((out / "metadata.json").read_text())
    assert metadata["policy.salts"] == "largest" and metadata["policy.tautomers"] == "keep"
    found = inspect(out)
    assert MoleculePolicy.of(found.prepared.source) == policy and found.duplicates == 0


def test_a_folder_of_another_policy_is_refused_and_an_old_one_is_of_the_default(tmp_path):
    path, out = tmp_path / "x.smi", tmp_path / "out"
    path.write_text("CC(=O)[O-].[Na+]\nCCO\n")
    prepare("molecule", str(path), out, policy=MoleculePolicy(salts="largest"))
    for kind in (MoleculeData, MoleculeGraphData):
        with pytest.raises(
            UserError, match=r"policy\.salts largest.*--data\.policy\.salts largest"
        ):
            kind(path=str(out)).open()
        data = kind(path=str(out), policy=MoleculePolicy(salts="largest"))
        assert len(data.open()) == 2
    metadata = json.loads((out / "metadata.json").read_text())
    kept = {name: value for name, value in metadata.items() if not name.startswith("policy.")}
    (out / "metadata.json").write_text(json.dumps(kept))
    assert len(MoleculeData(path=str(out)).open()) == 2


def test_policies_of_one_file_are_cached_apart(tmp_path):
    path = tmp_path / "x.smi"
    path.write_text("CC(=O)[O-].[Na+]\nCCO\n")
    lengths = []
    for salts in ("keep", "largest"):
        policy = MoleculePolicy(salts=salts)
        for kind in (MoleculeData, MoleculeGraphData):
            lengths.append(kind(path=str(path), policy=policy).open().lengths()[0])
    # Letters with cls and eos, and atoms.
    np.testing.assert_array_equal(lengths, [11, 5, 9, 4])


def test_a_policy_for_proteins_is_refused(tmp_path):
    with pytest.raises(UserError, match="policy is of molecules"):
        prepare("protein", "x.fasta", tmp_path / "o", policy=MoleculePolicy(salts="refuse"))
