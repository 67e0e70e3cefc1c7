from collections import Counter

import numpy as np
import pytest
from scipy import stats
from toy_sequences import BASES, brute_force, draw, families, mutate

from biofm_jax.errors import UserError
from biofm_jax.evaluate.canonical import reverse_complement
from biofm_jax.evaluate.kmers import Kmers, _codes, _letters, kmer_similarity
from biofm_jax.evaluate.similarity import ecfp4_similarity


def identity(similarity):
    """(n, n) similarities of all pairs; 1 of an item with itself."""
    n = np.arange(len(similarity.sizes))
    scores = np.concatenate([scores for _, scores in similarity.blocks(n, n)])
    np.fill_diagonal(scores, 1)
    return scores**similarity.power


@pytest.mark.parametrize(
    ("kmers", "letters"),
    [(Kmers(4), None), (Kmers(5), None), (Kmers(7, both_strands=True), BASES), (Kmers(30), None)],
)
def test_estimates_equal_those_of_counted_strings(kmers, letters):
    rng = np.random.default_rng(0)
    more = {} if letters is None else {"letters": letters}
    texts, _ = families(rng, 8, **more)
    repeat = draw(rng, 12, **more) * 9
    texts += ["", texts[0][:3], repeat, repeat[:70] + draw(rng, 20, **more), "A" * 90, "A" * 99]
    if kmers.both_strands:
        texts.append(reverse_complement(texts[0])[10:])
    k, both = kmers.k, kmers.both_strands
    expected = np.array([[brute_force(a, b, k, both) for b in texts] for a in texts])
    np.fill_diagonal(expected, 1)
    found = identity(kmer_similarity(texts, kmers))
    # Exactly the pairs that share more than chance explains are left.
    sizes = np.array([max(0, len(text) - kmers.k + 1) for text in texts])
    shared = np.round(expected**kmers.k * np.maximum(1, np.minimum.outer(sizes, sizes)))
    letters = np.array(list(Counter("".join(texts)).values()))
    agree = np.sum((letters / letters.sum()) ** 2) ** kmers.k * (2 if kmers.both_strands else 1)
    p = stats.poisson.sf(shared - 1, np.outer(sizes, sizes) * agree)
    expected[p > 0.01 / (len(texts) * (len(texts) - 1) / 2)] = 0
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (expected > 0).sum() > len(texts) + 2


def test_a_common_feature_counts_as_a_rare_one_does():
    """Variants of one wild type: nearly all k-mers are those of most items."""
    rng = np.random.default_rng(1)
    wild = draw(rng, 120)
    texts = [mutate(rng, wild, 0.02) for _ in range(40)] + [draw(rng, 100) for _ in range(9)]
    similarity = kmer_similarity(texts, Kmers(5))
    assert similarity.features.common.shape[1] > 50 and similarity.features.rare.nnz
    expected = np.array([[brute_force(a, b, 5) for b in texts[:40]] for a in texts[:40]])
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(identity(similarity)[:40, :40], expected, rtol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.15, 0.3])
def test_the_estimate_is_near_the_true_identity(share):
    rng = np.random.default_rng(2)
    estimates = []
    for _ in range(30):
        root = draw(rng, 400)
        similarity = kmer_similarity([root, mutate(rng, root, share)], Kmers(5))
        estimates.append(identity(similarity)[0, 1])
    assert np.mean(estimates) == pytest.approx(1 - share, abs=0.01)
    assert np.std(estimates) < 0.05


def test_a_fragment_is_like_the_whole_and_a_strand_like_the_other():
    rng = np.random.default_rng(3)
    dna = draw(rng, 300, BASES)
    texts = [dna, dna[100:180], reverse_complement(dna)]
    found = identity(kmer_similarity(texts, Kmers(11, both_strands=True)))
    assert found[0, 1] > 0.95 and found[0, 2] > 0.95
    assert identity(kmer_similarity(texts, Kmers(11)))[0, 2] == 0


def test_chance_links_no_unrelated_sequences():
    """Long ones share many 5-mers, short ones need few: neither is taken for kin."""
    rng = np.random.default_rng(4)
    for length in (12, 30, 3000):
        texts = [draw(rng, length) for _ in range(300)]
        found = identity(kmer_similarity(texts, Kmers(5)))
        assert not found[~np.eye(300, dtype=bool)].any()


def test_repeats_are_not_alike():
    one, other = "QA" * 60, "AQ" * 80
    assert identity(kmer_similarity([one, other], Kmers(5)))[0, 1] == 0


def test_prose_is_scored_by_the_plain_share():
    text = "no history of diabetes, and no prior treatment with the drug under study"
    other = text[:40] + " was found in another patient"
    similarity = kmer_similarity([text, other], Kmers(9, prose=True))
    share = brute_force(text, other, 9) ** 9
    assert identity(similarity)[0, 1] == pytest.approx(share)
    assert similarity.at_least(0.9) == "share of all 9-mers in common of 0.9 or more"
    assert "(59% of all 5-mers" in kmer_similarity([text], Kmers(5)).at_least(0.9)


def test_codes_do_not_overflow():
    """4 ** 40 does not fit 64 bits, where a first letter would be lost: windows stay apart."""
    rng = np.random.default_rng(5)
    tail = draw(rng, 39, BASES)
    texts = [first + tail + other for first in "ACGT" for other in "ACGT"]
    joined = "".join(texts)
    codes = _codes(_letters(joined), 40)
    windows = [joined[i : i + 40] for i in range(len(joined) - 39)]
    assert len(set(zip(windows, codes.tolist()))) == len(set(windows)) == len(set(codes.tolist()))


def test_nearest_is_the_most_alike():
    rng = np.random.default_rng(6)
    texts, _ = families(rng, 20)
    similarity = kmer_similarity(texts, Kmers(5))
    all_pairs = identity(similarity)
    rows, columns = np.arange(0, 20), np.arange(20, len(texts))
    place, best = similarity.nearest(rows, columns)
    np.testing.assert_allclose(best, all_pairs[:20, 20:].max(1), rtol=1e-6)
    np.testing.assert_allclose(all_pairs[rows, columns[place]], best, rtol=1e-6)
    assert not similarity.nearest(rows, np.array([], int))[1].any()


def test_blocks_make_no_difference(monkeypatch):
    texts, _ = families(np.random.default_rng(7), 12)
    similarity = kmer_similarity(texts, Kmers(5))
    whole = identity(similarity), similarity.nearest(np.arange(9), np.arange(9, len(texts)))
    monkeypatch.setattr("biofm_jax.evaluate.similarity._CELLS", 3 * len(texts))
    parts = identity(similarity), similarity.nearest(np.arange(9), np.arange(9, len(texts)))
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])


def test_molecules_are_compared_as_rdkit_does():
    from rdkit import Chem, DataStructs
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    smiles = [
        "CCO",
        "CCCO",
        "c1ccccc1O",
        "c1ccccc1N",
        "CC(=O)Oc1ccccc1C(=O)O",
        "C1CCCC1",
        "C1CCCCC1",
    ]
    generator = GetMorganGenerator(radius=2, fpSize=2048)
    bits = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in smiles]
    expected = [DataStructs.BulkTanimotoSimilarity(one, bits) for one in bits]
    np.testing.assert_allclose(identity(ecfp4_similarity(smiles)), expected, rtol=1e-6)


def test_too_short_kmers_are_refused():
    with pytest.raises(UserError, match="at least 3 letters"):
        kmer_similarity(["ACDE"], Kmers(2))
