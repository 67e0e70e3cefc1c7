import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.interpret.embedding_map import embedding_map
from biofm_jax.interpret.mutagenesis import mutagenesis, single_substitutions


def test_every_substitution_once_in_order():
    assert single_substitutions("AC", "ACG") == ["AC", "CC", "GC", "AA", "AC", "AG"]


def test_changes_of_an_additive_score_are_its_letter_values():
    values = {"A": 1.0, "C": -2.0, "G": 0.5}

    def score(texts):
        return np.array([sum((i + 1) * values[c] for i, c in enumerate(t)) for t in texts])

    found = mutagenesis(score, "GAC", "ACG")
    own = np.array([values[c] for c in "GAC"])[:, None]
    want = (np.array([1.0, -2.0, 0.5]) - own) * np.array([[1], [2], [3]])
    np.testing.assert_allclose(found, want)


def test_the_own_letter_changes_nothing_even_with_a_noisy_score():
    rng = np.random.default_rng(0)
    found = mutagenesis(lambda texts: rng.normal(size=len(texts)), "AG", "ACG")
    assert found[0, 0] == 0 and found[1, 2] == 0 and np.count_nonzero(found) == 4


def test_foreign_letters_and_scores_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="X in the sequence is not of the alphabet ACG"):
        mutagenesis(lambda texts: np.zeros(len(texts)), "AXC", "ACG")
    with pytest.raises(UserError, match="score of CA is not finite"):
        mutagenesis(
            lambda texts: np.array([np.nan if t == "CA" else 0.0 for t in texts]), "AA", "AC"
        )


def test_a_map_keeps_a_plane_and_its_variance():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 2)) * (3.0, 1.0)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0][:2]
    points, shares = embedding_map(plane @ turn)
    flat = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    kept = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(kept, flat, atol=1e-8)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]


def test_a_map_of_two_points_or_without_umap_is_refused():
    with pytest.raises(UserError, match="at least 3 items, not 2"):
        embedding_map(np.zeros((2, 4)))
    try:
        import umap  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r"pip install 'biofm_jax\[umap\]'"):
            embedding_map(np.random.default_rng(0).normal(size=(9, 4)), "umap")
