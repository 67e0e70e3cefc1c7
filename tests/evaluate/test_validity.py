import numpy as np
import pytest

from biofm_jax.data.molecule import MoleculeData, canonical_smiles
from biofm_jax.data.protein import ProteinData
from biofm_jax.evaluate.validity import validity_report
from biofm_jax.evaluate.validity_proteins import (
    RESIDUES,
    SWISS_PROT,
    distinct_trimers,
    divergence_bits,
    longest_run,
)


def test_molecules_are_counted_by_their_canonical_form():
    pytest.importorskip("rdkit")
    texts = ["CCO", "OCC", "C1CC", "", "c1ccccc1", "CC(=O)O", "C(", "c1ccccc1"]
    known = [canonical_smiles("C(C)O"), canonical_smiles("CN")]
    report = validity_report("molecule", texts, MoleculeData().clean, iter(known))
    counts = {name: report[name] for name in ("sequences", "valid", "unique", "novel")}
    assert counts == {"sequences": 8, "valid": 5, "unique": 3, "novel": 2}
    assert (report["valid_share"], report["unique_share"]) == (5 / 8, 3 / 5)
    assert report["novel_share"] == 2 / 3
    # Ethanol twice, benzene twice, acetic acid: g/mol.
    np.testing.assert_allclose(report["weight_mean"], (2 * 46.07 + 2 * 78.11 + 60.05) / 5, 1e-3)
    np.testing.assert_allclose(report["known_weight_mean"], (46.07 + 31.06) / 2, 1e-3)
    assert 0 < report["qed_mean"] < 1 and np.isfinite(report["logp_mean"])


def test_what_cannot_be_told_is_none():
    pytest.importorskip("rdkit")
    report = validity_report("molecule", ["C(", ""], MoleculeData().clean, None)
    assert report["valid_share"] == 0.0 and report["valid"] == 0
    for name in ("novel", "novel_share", "unique_share", "letters_mean"):
        assert report[name] is None
    assert "qed_mean" not in report


def test_proteins_have_lengths_composition_and_repeats():
    texts = ["MKTAYIAKQR", "MAAAAAK", "mktayiakqr", "M*K", "XXXX"]
    known = ["MKTAYIAKQR", "GGG"]
    report = validity_report("protein", texts, ProteinData().clean, known)
    assert [report[name] for name in ("valid", "unique", "novel")] == [4, 3, 2]
    assert report["length_median"] == 8.5 and report["length_q95"] == 10
    assert report["repeat_share"] == 0.25
    assert report["other_residues_share"] == pytest.approx(4 / 31)
    assert report["trimers_distinct"] == pytest.approx((1 + 3 / 5 + 1 + 1 / 2) / 4)
    assert report["known_length_median"] == 6.5


def test_a_modality_without_properties_of_its_own_is_counted():
    report = validity_report("genome", ["ACGT", "ACGT"], str, ["TTTT"])
    assert [report[name] for name in ("valid", "unique", "novel")] == [2, 1, 1]


def test_divergence_is_zero_for_swiss_prot_and_known_for_one_residue():
    assert abs(sum(SWISS_PROT.values()) - 100) < 0.2
    assert divergence_bits(SWISS_PROT) == pytest.approx(0, abs=1e-12)
    want = -np.log2(SWISS_PROT["W"] / sum(SWISS_PROT.values()))
    assert divergence_bits({"W": 7, "X": 3}) == pytest.approx(want)
    assert divergence_bits({"X": 3}) is None
    even = divergence_bits(dict.fromkeys(RESIDUES, 1))
    share = np.array(list(SWISS_PROT.values())) / sum(SWISS_PROT.values())
    assert even == pytest.approx(np.mean(np.log2(0.05 / share)))


def test_runs_and_trimers():
    assert [longest_run(text) for text in ("", "A", "AAB", "ABBBA")] == [0, 1, 2, 3]
    assert [distinct_trimers(text) for text in ("AB", "ABC", "AAAA")] == [1.0, 1.0, 0.5]
