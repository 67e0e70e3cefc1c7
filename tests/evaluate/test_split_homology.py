import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from toy_sequences import BASES, brute_force, draw, families, mutate

from biofm_jax.errors import UserError
from biofm_jax.evaluate.canonical import reverse_complement
from biofm_jax.evaluate.kmers import KMERS
from biofm_jax.evaluate.split_homology import homology_groups, homology_split


def parts(fold):
    return fold.train, fold.valid, fold.test


@pytest.mark.parametrize(("identity", "share"), [(0.5, 0.2), (0.7, 0.1), (0.9, 0.03)])
def test_near_duplicates_never_cross_parts(identity, share):
    texts, _ = families(np.random.default_rng(0), 40, share)
    fold = homology_split(texts, identity, train=0.7, valid=0.15, seed=1)
    assert sorted(np.concatenate(parts(fold))) == list(range(len(texts)))
    part = np.zeros(len(texts), int)
    part[fold.valid], part[fold.test] = 1, 2
    k = KMERS["protein"].k
    for i, one in enumerate(texts):
        for j in range(i):
            if part[i] != part[j]:
                assert brute_force(one, texts[j], k) < identity
    again = homology_split(texts, identity, train=0.7, valid=0.15, seed=1)
    other = homology_split(texts, identity, train=0.7, valid=0.15, seed=2)
    assert all((a == b).all() for a, b in zip(parts(fold), parts(again)))
    assert set(fold.test) != set(other.test)
    assert [len(p) / len(texts) for p in parts(fold)] == pytest.approx([0.7, 0.15, 0.15], abs=0.03)


@pytest.mark.parametrize("cells", [4_000_000, 1000])
def test_groups_are_the_families(monkeypatch, cells):
    """Compared in one block, and in many."""
    monkeypatch.setattr("biofm_jax.evaluate.similarity._CELLS", cells)
    texts, family = families(np.random.default_rng(1), 60, 0.1)
    assert adjusted_rand_score(family, homology_groups(texts, 0.5)) == 1.0


def test_groups_are_those_of_single_linkage():
    """A chain a - b - c whose ends are too far apart is one group; the numbers follow the order."""
    rng = np.random.default_rng(2)
    a = draw(rng, 300)
    b = mutate(rng, a[:150], 0.35) + a[150:]
    c = b[:150] + mutate(rng, b[150:], 0.35)
    apart = draw(rng, 300)
    k = KMERS["protein"].k
    assert brute_force(a, b, k) > 0.88 and brute_force(b, c, k) > 0.88
    assert brute_force(a, c, k) < 0.75
    assert homology_groups([apart, a, c], 0.88).tolist() == [0, 1, 2]
    assert homology_groups([apart, a, c, b], 0.88).tolist() == [0, 1, 1, 1]


def test_exact_duplicates_are_together_whatever_their_length():
    rng = np.random.default_rng(3)
    texts = [draw(rng, 100) for _ in range(20)] + ["MKV", "acd", "ACD", "MKV"]
    groups = homology_groups(texts, 0.9)
    assert groups[-1] == groups[-4] and groups[-2] == groups[-3]
    assert len(set(groups)) == 22


def test_dna_is_grouped_with_its_other_strand():
    rng = np.random.default_rng(4)
    one = draw(rng, 200, BASES)
    texts = [one, draw(rng, 200, BASES), mutate(rng, reverse_complement(one), 0.05, BASES)]
    assert homology_groups(texts, 0.8, "genome").tolist() == [0, 1, 0]


def test_one_family_cannot_be_split():
    rng = np.random.default_rng(5)
    wild = draw(rng, 100)
    with pytest.raises(UserError, match=r"30 sequences fall into 1 groups; 1 groups cannot fill 3"):
        homology_split([mutate(rng, wild, 0.02) for _ in range(30)], 0.5)


def test_misuse_is_named():
    texts = [draw(np.random.default_rng(6), 60) for _ in range(100)]
    with pytest.raises(UserError, match=r"not above chance .*MMseqs2"):
        homology_groups(texts, 0.2)
    with pytest.raises(UserError, match=r"identity is 50"):
        homology_groups(texts, 50)
    with pytest.raises(UserError, match="no k-mers are known for 'molecule'"):
        homology_groups(["CCO"], 0.5, "molecule")
