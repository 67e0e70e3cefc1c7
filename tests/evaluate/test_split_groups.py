import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.split_groups import group_folds, group_split


def parts(fold):
    return fold.train, fold.valid, fold.test


def random_groups(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(rng.uniform(0.02, 0.5), rng.integers(5, 200))
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes)).tolist()


@pytest.mark.parametrize("seed", range(30))
def test_groups_stay_whole_and_every_item_is_in_one_part(seed):
    groups = random_groups(seed)
    fold = group_split(groups, 0.7, 0.1, seed)
    assert sorted(np.concatenate(parts(fold))) == list(range(len(groups)))
    held = [{groups[i] for i in part} for part in parts(fold)]
    assert all(held) and not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    again = group_split(groups, 0.7, 0.1, seed)
    assert all((a == b).all() for a, b in zip(parts(fold), parts(again)))


@pytest.mark.parametrize("seed", range(10))
def test_shares_are_near_those_asked_for(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(400), rng.integers(1, 20, 400)).tolist()
    fold = group_split(groups, 0.8, 0.1, seed)
    shares = [len(part) / len(groups) for part in parts(fold)]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.002)


def test_large_groups_are_found_in_every_part():
    """Ten of the hundred groups are twenty times as large: some are tested, for some seed."""
    groups = np.repeat(np.arange(100), [20] * 10 + [1] * 90).tolist()
    tested = [
        max(np.bincount([groups[i] for i in group_split(groups, seed=s).test])) for s in range(20)
    ]
    assert 3 <= sum(size == 20 for size in tested) <= 19


def test_seeds_differ_and_no_validation_part_is_possible():
    groups = [f"patient {i // 3}" for i in range(90)]
    one, other = (group_split(groups, 0.8, 0.0, seed) for seed in (0, 1))
    assert not len(one.valid) and len(one.train) == 72
    assert set(one.test) != set(other.test)


def test_few_large_groups_leave_no_part_empty():
    groups = ["a"] * 100 + ["b"] * 50 + ["c"] * 30
    fold = group_split(groups, 0.8, 0.1)
    assert all(len(part) for part in parts(fold))
    assert len(fold.train) == 100


def test_folds_test_every_group_once():
    groups = random_groups(3)
    folds = group_folds(groups, 4, seed=1)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(groups)))
    for fold in folds:
        held = [{groups[i] for i in part} for part in parts(fold)]
        assert all(held) and len(set.union(*held)) == sum(map(len, held)) == len(set(groups))
    sites = group_folds(["x", "y", "y", "z"], 3)
    assert sorted(map(tuple, (fold.test for fold in sites))) == [(0,), (1, 2), (3,)]


def test_misuse_is_named():
    with pytest.raises(UserError, match="item 1 has no group"):
        group_split(["a", None, "b"])
    with pytest.raises(UserError, match="item 2 has no group"):
        group_split([1.0, 2.0, float("nan")])
    with pytest.raises(UserError, match="2 groups cannot fill 3 parts"):
        group_split(["a", "b", "a"])
    with pytest.raises(UserError, match=r"train is 0\.9 and valid 0\.1"):
        group_split(["a", "b", "c"], 0.9, 0.1)
    with pytest.raises(UserError, match="folds is 2"):
        group_folds(["a", "b", "c"], 2)
