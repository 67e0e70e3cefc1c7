import numpy as np
import pytest

from biofm_jax.data.molecule import MoleculeData, canonical_smiles
from biofm_jax.data.protein import ProteinData
from biofm_jax.evaluate.validity import COMPARED, REPORTS, judge
from biofm_jax.evaluate.validity_conditions import (
    asked_and_reached,
    condition_figure,
    condition_report,
)
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
    report = judge("molecule", texts, MoleculeData().clean, iter(known)).report
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
    report = judge("molecule", ["C(", ""], MoleculeData().clean, None).report
    assert report["valid_share"] == 0.0 and report["valid"] == 0
    for name in ("novel", "novel_share", "unique_share", "letters_mean"):
        assert report[name] is None
    assert "qed_mean" not in report


def test_proteins_have_lengths_composition_and_repeats():
    texts = ["MKTAYIAKQR", "MAAAAAK", "mktayiakqr", "M*K", "XXXX"]
    known = ["MKTAYIAKQR", "GGG"]
    report = judge("protein", texts, ProteinData().clean, known).report
    assert [report[name] for name in ("valid", "unique", "novel")] == [4, 3, 2]
    assert report["length_median"] == 8.5 and report["length_q95"] == 10
    assert report["repeat_share"] == 0.25
    assert report["other_residues_share"] == pytest.approx(4 / 31)
    assert report["trimers_distinct"] == pytest.approx((1 + 3 / 5 + 1 + 1 / 2) / 4)
    assert report["known_length_median"] == 6.5


def test_a_modality_without_properties_of_its_own_is_counted():
    report = judge("genome", ["ACGT", "ACGT"], str, ["TTTT"]).report
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


def test_molecules_are_compared_with_known_ones_by_distance_fragments_and_picture():
    pytest.importorskip("rdkit")
    from biofm_jax.data.molecule import quickstart_molecules

    known = quickstart_molecules().smiles[:240]
    again = judge("molecule", known[120:], MoleculeData().clean, known)
    assert again.picture[:4] == b"\x89PNG" and again.report["novel"] == 0
    assert again.report["frechet_molecules"] == 120
    chains = ["C" * n + "N" for n in range(1, 121)]
    other = judge("molecule", chains, MoleculeData().clean, known).report
    assert other["known_frechet_ecfp4"] == again.report["known_frechet_ecfp4"]
    assert other["frechet_ecfp4"] > 2 * other["known_frechet_ecfp4"]
    assert again.report["frechet_ecfp4"] < 1.1 * again.report["known_frechet_ecfp4"]
    assert 1 < other["known_sa_mean"] < 10 and np.isfinite(other["sa_mean"])
    few = judge("molecule", chains, MoleculeData().clean, known[:60]).report
    assert "frechet_ecfp4" not in few and "sa_mean" not in few and "known_qed_mean" in few


def test_known_texts_are_drawn_from_all_of_them(monkeypatch):
    monkeypatch.setitem(COMPARED, "protein", 50)
    drawn = []
    monkeypatch.setitem(REPORTS, "protein", lambda valid, known: (drawn.extend(known) or {}, None))
    judge("protein", ["MK"], str, (f"{i}" for i in range(1000)))
    numbers = np.array(drawn, int)
    assert len(set(drawn)) == 50 and 300 < numbers.mean() < 700 and numbers.max() > 800
    assert (np.diff(numbers) < 0).any()  # in random order


def test_molecules_obey_or_not():
    pytest.importorskip("rdkit")
    clean = MoleculeData().clean
    # Alkanes: Crippen's logP grows with the chain: 1.42 of C3 to 4.15 of C10.
    rows = [{"text": "C" * n, "asked_logp": 1.25 if n < 6 else 4.25, "asked_qed": ""}
            for n in (3, 4, 9, 10)]  # fmt: skip
    rows += [{"text": "C(", "asked_logp": 1.25, "asked_qed": ""},
             {"text": "CC", "asked_logp": "", "asked_qed": ""}]  # fmt: skip
    pairs = asked_and_reached(rows, clean)
    assert list(pairs) == ["logp"] and len(pairs["logp"][0]) == 4
    report = condition_report(pairs)
    assert report["asked_logp_molecules"] == 4
    assert report["asked_logp_pearson"] == pytest.approx(np.corrcoef(*pairs["logp"])[0, 1])
    assert report["asked_logp_pearson"] > 0.95 and report["asked_logp_error_mean"] < 0.5
    assert report["asked_logp_bin_share"] == np.mean(
        [np.floor(2 * a) == np.floor(2 * r) for a, r in zip(*pairs["logp"])]
    )
    assert condition_figure(pairs)[:4] == b"\x89PNG"
    same = condition_report(asked_and_reached(rows[:2], clean))
    assert "asked_logp_pearson" not in same and same["asked_logp_molecules"] == 2
    assert condition_report(asked_and_reached([{"text": "CC"}], clean)) == {}
