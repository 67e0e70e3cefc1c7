import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data.molecule import quickstart_molecules
from biofm_jax.evaluate.synthesis import UNKNOWN, Accessibility


@pytest.fixture(scope="module")
def molecules():
    """A spiro compound, a bridged one, a macrocycle and one that is symmetrical, among others."""
    odd = ["C1CCC2(CC1)OCCO2", "C1CC2CCC1C2", "C1CCCCCCCCCCC(=O)O1", "CC(C)(C)C(C)(C)C"]
    return quickstart_molecules().smiles[:300] + odd


def test_contributions_are_logs_of_counts_over_the_kinds_that_are_frequent():
    # Ethane and methane: CH3 three times, and the bond between two CH3 once.
    found = Accessibility.of(["CC", "CC", "C"])
    assert sorted(found.contributions.values()) == pytest.approx(
        sorted(np.log10(np.array([4, 2, 1]) / 2))
    )


def test_the_formula_is_that_of_rdkits_contribution(molecules, monkeypatch):
    """Its own fragments stay in their pickle: it is given ours."""
    import sys

    from rdkit import Chem, RDConfig

    monkeypatch.syspath_prepend(f"{RDConfig.RDContribDir}/SA_Score")
    import sascorer

    found = Accessibility.of(molecules[:200])
    monkeypatch.setattr(sascorer, "_fscores", dict(found.contributions))
    wanted = [sascorer.calculateScore(Chem.MolFromSmiles(smiles)) for smiles in molecules]
    np.testing.assert_allclose(found.scores(molecules), wanted, rtol=1e-12)
    assert UNKNOWN == -4 and len(set(wanted)) > 200
    sys.modules.pop("sascorer")


def test_strange_molecules_are_harder_than_known_ones(molecules):
    found = Accessibility.of(molecules[:200])
    known, strange = (
        found.scores(molecules[:50]),
        found.scores(["C1#CC2(F)N3OC1P23", "[SiH3][As]=B"]),
    )
    assert strange.min() > known.mean() and known.min() >= 1 and strange.max() <= 10
