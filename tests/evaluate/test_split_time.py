import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.split_time import cut_dates, temporal_split

DATES = ("2016-05-01", "2014", "2015-03-31", "2015-04", "2017-01-01T12:30", "2015-03-31T23:00")


def test_parts_are_before_between_and_after_the_cuts():
    fold = temporal_split(DATES, "2015-03-31", "2016-05-01")
    assert fold.train.tolist() == [1]
    assert fold.valid.tolist() == [2, 3, 5]
    assert fold.test.tolist() == [0, 4]
    without = temporal_split(DATES, None, "2016-05-01")
    assert without.train.tolist() == [1, 2, 3, 5] and not len(without.valid)


@pytest.mark.parametrize("seed", range(20))
def test_cuts_give_the_nearest_shares_and_keep_days_whole(seed):
    rng = np.random.default_rng(seed)
    days = np.datetime64("2010-01-01") + rng.integers(0, rng.integers(3, 300), 200)
    if len(np.unique(days)) < 3:
        days[:3] = np.datetime64("2009-01-01") + np.arange(3)
    dates = [str(day) for day in days]
    fold = temporal_split(dates, *cut_dates(dates, 0.7, 0.1))
    assert sorted(np.concatenate([fold.train, fold.valid, fold.test])) == list(range(200))
    assert days[fold.train].max() < days[fold.valid].min() <= days[fold.valid].max()
    assert days[fold.valid].max() < days[fold.test].min()
    largest_day = np.unique(days, return_counts=True)[1].max()
    assert abs(len(fold.test) - 0.2 * 200) <= largest_day


def test_cuts_by_hand():
    dates = ["2001"] * 7 + ["2002"] * 1 + ["2003"] * 2
    assert cut_dates(dates, 0.7, 0.1) == ("2002-01-01", "2003-01-01")
    assert cut_dates(dates, 0.8, 0.0) == (None, "2003-01-01")
    assert cut_dates(["2001"] * 9 + ["2002", "2003"], 0.1, 0.1) == ("2002-01-01", "2003-01-01")


@pytest.mark.parametrize("text", ["31.3.2015", "", None, "NaT", "2015-03-31T10:00Z"])
def test_unreadable_dates_are_named(text):
    with pytest.raises(UserError, match="item 1: cannot read the date"):
        temporal_split(["2014", text, "2016"], None, "2015")


def test_misuse_is_named():
    with pytest.raises(UserError, match="is after test_from"):
        temporal_split(DATES, "2017", "2016")
    with pytest.raises(UserError, match=r"no item is left for the test part: .* run from 2014"):
        temporal_split(DATES, None, "2020")
    with pytest.raises(UserError, match="2 different dates cannot make 3 parts"):
        cut_dates(["2001", "2002"])
    with pytest.raises(UserError, match="must leave a test part"):
        cut_dates(DATES, 0.9, 0.1)
