import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.splits import (
    filled,
    random_folds,
    random_split,
    scaffold_split,
    scaffolds,
)

# Scaffolds by hand: benzene b (4 members, first at 1), pyridine p (2, first at 0),
# cyclohexane c (2, first at 3), none n (1 at 6), naphthalene a (1 at 9).
SMILES = (
    "Cc1ccncc1",  # 0 p
    "Cc1ccccc1",  # 1 b
    "CCc1ccccc1",  # 2 b
    "CC1CCCCC1",  # 3 c
    "c1ccncc1",  # 4 p
    "Oc1ccccc1",  # 5 b
    "CCO",  # 6 n
    "OC1CCCCC1",  # 7 c
    "C[C@H](F)c1ccccc1",  # 8 b
    "c1ccc2ccccc2c1",  # 9 a
)


def test_scaffold_split_by_hand():
    """Order of sets: b (4), c (2, first 3), p (2, first 0), a (1, first 9), n (1, first 6)."""
    fold = scaffold_split(SMILES)
    assert fold.train.tolist() == [1, 2, 5, 8, 3, 7, 0, 4]
    assert fold.valid.tolist() == [9]
    assert fold.test.tolist() == [6]


def test_a_set_that_overflows_a_part_goes_to_the_next():
    """60 % of ten is six: b (4) and c (2) fill it; p (2) overflows the 10 % for validation."""
    fold = scaffold_split(SMILES, train=0.6, valid=0.1)
    assert fold.train.tolist() == [1, 2, 5, 8, 3, 7]
    assert fold.valid.tolist() == [9]
    assert fold.test.tolist() == [0, 4, 6]


def test_stereochemistry_does_not_make_a_scaffold():
    one, other = scaffolds(("C[C@H]1CC[C@@H](O1)c1ccccc1", "C[C@@H]1CC[C@H](O1)c1ccccc1"))
    assert one == other


def test_unparsable_smiles_are_named():
    with pytest.raises(UserError, match=r"molecule 1.*'c1cc'"):
        scaffold_split(("CC", "c1cc"))


def test_random_folds_test_every_item_once():
    folds = random_folds(23, 5, seed=0)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(23))
    for fold in folds:
        assert sorted(np.concatenate([fold.train, fold.valid, fold.test])) == list(range(23))
    again = random_folds(23, 5, seed=0)
    assert all((a.test == b.test).all() for a, b in zip(folds, again))
    assert any(
        (a.test != b.test).any()
        for a, b in zip(folds, random_folds(23, 5, seed=1))
        if len(a.test) == len(b.test)
    )
    with pytest.raises(UserError, match="cannot make 5 folds"):
        random_folds(4, 5, seed=0)


def deepchem_order(names, train, valid):
    """A written reference of deepchem.splits.ScaffoldSplitter (read at commit 0042202): sets by
    size and then by first member, both descending, and three growing lists."""
    first = {name: names.index(name) for name in set(names)}
    order = sorted(set(names), key=lambda name: -first[name])
    order.sort(key=lambda name: -names.count(name))  # stable: the first key decides among equals
    parts = {"train": [], "valid": [], "test": []}
    for name in order:
        members = [index for index, other in enumerate(names) if other == name]
        used = len(parts["train"])
        if not used + len(members) > train * len(names):
            where = "train"
        elif not used + len(parts["valid"]) + len(members) > (train + valid) * len(names):
            where = "valid"
        else:
            where = "test"
        parts[where] += members
    return parts["train"], parts["valid"], parts["test"]


@pytest.mark.parametrize("train, valid", [(0.8, 0.1), (0.5, 0.25), (0.7, 0.0)])
def test_the_scaffold_split_is_deepchems_on_real_molecules(train, valid):
    pytest.importorskip("rdkit")
    from biofm_jax.data.molecule import quickstart_molecules

    smiles = quickstart_molecules().smiles[:700]
    names = scaffolds(smiles)
    assert 200 < len(set(names)) < 600  # many sets of equal size, many of one molecule
    fold = scaffold_split(smiles, train, valid)
    found = [part.tolist() for part in (fold.train, fold.valid, fold.test)]
    assert found == list(deepchem_order(names, train, valid))


def test_a_group_goes_to_the_first_part_that_it_fits_and_later_ones_may_still_fit_before():
    fold = filled([[5, 6], [0, 1, 2], [7], [3], [4, 8, 9]], 0.3, 0.3)
    assert (fold.train.tolist(), fold.valid.tolist()) == ([5, 6, 7], [0, 1, 2])
    assert fold.test.tolist() == [3, 4, 8, 9]


def test_a_random_split_is_whole_and_of_its_seed():
    fold, again, other = (random_split(642, seed=seed) for seed in (0, 0, 1))
    assert [len(part) for part in (fold.train, fold.valid, fold.test)] == [513, 64, 65]
    assert sorted(np.concatenate([fold.train, fold.valid, fold.test])) == list(range(642))
    assert (fold.test == again.test).all() and (fold.test != other.test).any()
    with pytest.raises(UserError, match="4 items cannot be split"):
        random_split(4)
