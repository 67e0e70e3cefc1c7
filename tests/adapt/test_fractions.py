import numpy as np
import pytest

from biofm_jax.adapt.fractions import (
    few_shot_adapter,
    fraction_adapter,
    limited_adapter,
    method_name,
    read_method,
    read_options,
    shuffled_adapter,
    unlabelled_adapter,
    within_limits,
)
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)


def labelled(targets, start=0):
    targets = np.asarray(targets, float)
    names = tuple(f"i{start + i}" for i in range(len(targets)))
    return Labelled(names, tuple(f"text of {name}" for name in names), targets)


def binary(n, ones, start=0):
    return labelled((np.arange(n) % n < ones)[:, None].astype(float), start)


def numbers(n, columns=1, missing=0.0, start=0, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=(n, columns))
    targets[rng.random(targets.shape) < missing] = np.nan
    return labelled(targets, start)


class Spy:
    """An adapter that keeps what it is given and predicts zeros."""

    def __call__(self, train, valid, test, seed):
        self.train, self.valid, self.test, self.seed = train, valid, test, seed
        return np.zeros_like(test.targets)


def seen(make, train, valid, seed=0):
    """What the adapter inside `make(spy)` sees."""
    spy = Spy()
    test = numbers(5, train.targets.shape[1], start=90_000).without_targets()
    predicted = make(spy)(train, valid, test, seed)
    assert predicted.shape == test.targets.shape
    assert spy.test is test and spy.seed == seed
    return spy


def labels_of(part):
    """{(item, column): label} of what is known."""
    return {(part.ids[i], j): part.targets[i, j] for i, j in np.argwhere(~np.isnan(part.targets))}


CASES = {
    "binary": (binary(1000, 200), binary(300, 60, start=5000)),
    "rare class": (binary(1000, 3), binary(50, 1, start=5000)),
    "number": (numbers(700), numbers(90, start=5000)),
    "columns with gaps": (numbers(400, 3, 0.4), numbers(80, 3, 0.4, start=5000)),
    "tiny": (numbers(5), numbers(0)),
}


@pytest.mark.parametrize("case", CASES)
def test_smaller_shares_lie_within_larger_ones(case):
    train, valid = CASES[case]
    inner = {"train": {}, "valid": {}}
    for share in SHARES:
        spy = seen(lambda spy, share=share: fraction_adapter(spy, share), train, valid)
        for part in inner:
            found = labels_of(getattr(spy, part))
            assert inner[part].items() <= found.items()
            inner[part] = found
    assert inner == {"train": labels_of(train), "valid": labels_of(valid)}


@pytest.mark.parametrize("case", CASES)
def test_everything_that_is_seen_is_true_and_in_the_order_of_the_data(case):
    train, valid = CASES[case]
    spy = seen(lambda spy: fraction_adapter(spy, 0.1), train, valid)
    for part, whole in ((spy.train, train), (spy.valid, valid)):
        assert labels_of(part).items() <= labels_of(whole).items()
        places = [whole.ids.index(name) for name in part.ids]
        assert places == sorted(places)
        assert part.texts == tuple(whole.texts[i] for i in places)
        assert not np.isnan(part.targets).all(1).any()


def test_each_class_keeps_its_share_and_never_fewer_than_two():
    train, valid = CASES["binary"]
    for share, ones, zeros, valid_ones, valid_zeros in (
        (0.001, 2, 2, 1, 1),
        (0.03, 6, 24, 2, 8),
        (0.07, 14, 56, 5, 17),
    ):
        spy = seen(lambda spy, share=share: fraction_adapter(spy, share), train, valid)
        assert (spy.train.targets == 1).sum() == ones
        assert (spy.train.targets == 0).sum() == zeros
        assert (spy.valid.targets == 1).sum() == valid_ones
        assert (spy.valid.targets == 0).sum() == valid_zeros
    few = seen(lambda spy: fraction_adapter(spy, 0.01), *CASES["rare class"])
    assert (few.train.targets == 1).sum() == 2
    assert len(seen(lambda spy: fraction_adapter(spy, 0.01), *CASES["number"]).train) == 8
    assert len(seen(lambda spy: fraction_adapter(spy, 0.01), *CASES["tiny"]).train) == 5


def test_every_column_has_its_own_share():
    train, valid = CASES["columns with gaps"]
    spy = seen(lambda spy: fraction_adapter(spy, 0.25), train, valid)
    for part, whole in ((spy.train, train), (spy.valid, valid)):
        there = (~np.isnan(whole.targets)).sum(0)
        np.testing.assert_array_equal((~np.isnan(part.targets)).sum(0), np.ceil(there / 4))


def test_draws_differ_by_seed_and_are_drawn_fairly():
    train, valid = CASES["number"]

    def ids(seed):
        return seen(lambda spy: fraction_adapter(spy, 0.1), train, valid, seed).train.ids

    assert ids(0) == ids(0) and ids(0) != ids(1)
    counts = dict.fromkeys(train.ids, 0)
    for seed in range(300):
        for name in ids(seed):
            counts[name] += 1
    found = np.array(list(counts.values()))
    assert found.sum() == 300 * 70
    assert found.min() > 0 and found.max() < 60  # 30 on average, deviation 5.2


def test_all_labels_change_nothing():
    train, valid = CASES["columns with gaps"]
    spy = seen(lambda spy: fraction_adapter(spy, 1.0), train, valid)
    assert spy.train is train and spy.valid is valid


@pytest.mark.parametrize("share", [0, -0.1, 1.01, 3])
def test_no_such_share(share):
    with pytest.raises(UserError, match=r"3 % is 0\.03"):
        fraction_adapter(Spy(), share)


def test_shots_are_per_class_without_validation_items_and_nested():
    train, valid = CASES["binary"]
    inner = {}
    for shots in (1, 2, 8, 64):
        spy = seen(lambda spy, shots=shots: few_shot_adapter(spy, shots), train, valid)
        assert (spy.train.targets == 1).sum() == (spy.train.targets == 0).sum() == shots
        assert len(spy.valid) == 0 and spy.valid.targets.shape == (0, 1)
        found = labels_of(spy.train)
        assert inner.items() <= found.items()
        inner = found
    assert len(seen(lambda spy: few_shot_adapter(spy, 8), *CASES["number"]).train) == 8
    gaps = seen(lambda spy: few_shot_adapter(spy, 8), *CASES["columns with gaps"]).train
    assert ((~np.isnan(gaps.targets)).sum(0) == 8).all()
    with pytest.raises(UserError, match="number of shots is 0"):
        few_shot_adapter(Spy(), 0)


def test_shuffled_labels_are_the_same_labels_of_other_items():
    train, valid = CASES["columns with gaps"]
    spy = seen(shuffled_adapter, train, valid)
    for part, whole in ((spy.train, train), (spy.valid, valid)):
        assert part.ids == whole.ids and part.texts == whole.texts
        before, after = (np.nan_to_num(p.targets, nan=9.0) for p in (whole, part))
        assert {tuple(row) for row in before} == {tuple(row) for row in after}
        # A few rows stay by chance, or have no label at all.
        assert (before == after).all(1).mean() < 0.15
    again = seen(shuffled_adapter, train, valid)
    np.testing.assert_array_equal(again.train.targets, spy.train.targets)
    other = seen(shuffled_adapter, train, valid, seed=1)
    assert not np.array_equal(other.train.targets, spy.train.targets, equal_nan=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda spy: shuffled_adapter(fraction_adapter(spy, 0.1)),
        lambda spy: fraction_adapter(shuffled_adapter(spy), 0.1),
    ],
)
def test_shuffling_and_a_share_go_together(make):
    train, valid = CASES["number"]
    spy = seen(make, train, valid)
    assert len(spy.train) == 70 and len(spy.valid) == 9
    truth = labels_of(train)
    assert np.mean([truth[key] == value for key, value in labels_of(spy.train).items()]) < 0.1


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("probe", {}),
        ("probe", {"share": 1.0}),
        ("probe@3%", {"share": 0.03}),
        ("probe@0.1%", {"share": 0.001}),
        ("probe@7%", {"share": 0.07}),
        ("knn@8shot", {"shots": 8}),
        ("probe+shuffled", {"shuffled": True}),
        ("finetune@10%+shuffled", {"share": 0.1, "shuffled": True}),
        ("probe(layer=12)", {"layer": 12}),
        ("probe(pooling=mean)@0.5%", {"pooling": "mean", "share": 0.005}),
        ("probe(pooling=cls, layer=0)@2shot+shuffled",
         {"shots": 2, "shuffled": True, "pooling": "cls", "layer": 0}),
    ],
)  # fmt: skip
def test_names_are_read_as_they_are_written(name, given):
    method = name.split("@")[0].split("+")[0]
    base = method.split("(")[0]
    assert method_name(base, **given) == name
    assert read_options(method) == (base, given.get("pooling"), given.get("layer"))
    share = None if "shots" in given else given.get("share", 1.0)
    want = (method, share, given.get("shots"), given.get("shuffled", False))
    assert read_method(name) == want


def test_what_an_adapter_sees_can_be_asked():
    train, valid = CASES["columns with gaps"]
    for make in (
        lambda spy: fraction_adapter(spy, 0.1),
        lambda spy: few_shot_adapter(spy, 4),
        lambda spy: shuffled_adapter(fraction_adapter(spy, 0.25)),
        lambda spy: limited_adapter(spy, "probe@3%+shuffled"),
        lambda spy: limited_adapter(spy, "probe(layer=1)@4shot"),
        lambda spy: limited_adapter(spy, "probe"),
        unlabelled_adapter,
    ):
        spy = seen(make, train, valid, seed=2)
        inner, kept, kept_valid = within_limits(make(spy), train, valid, seed=2)
        assert inner is spy
        for one, other in ((kept, spy.train), (kept_valid, spy.valid)):
            assert one.ids == other.ids and one.texts == other.texts
            np.testing.assert_array_equal(one.targets, other.targets)
    assert len(kept) == len(kept_valid) == 0  # the last sees no label
    assert within_limits(spy, train, valid, seed=0) == (spy, train, valid)


def test_a_name_has_one_limit():
    with pytest.raises(UserError, match="exclude one another"):
        method_name("probe", share=0.1, shots=3)
