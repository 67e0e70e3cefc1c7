"""Temporal splits: learn from the past, test on what came later."""

import warnings
from collections.abc import Sequence

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.evaluate.splits import Fold


def temporal_split(dates: Sequence[str], valid_from: str | None, test_from: str) -> Fold:
    """The items before, between and after two dates.

    Args:
        dates: n dates or times in ISO 8601 without a time zone: 2015, 2015-03, 2015-03-31,
            2015-03-31T12:00.
        valid_from: the first date of the validation part; None for no validation part.
        test_from: the first date of the test part.

    Raises:
        UserError: a date cannot be read, the cuts are not in order, or nothing is left to train
            or to test on.
    """
    times = _times(dates, "item")
    cuts = _times([test_from if valid_from is None else valid_from, test_from], "cut")
    if cuts[0] > cuts[1]:
        raise UserError(f"valid_from {valid_from} is after test_from {test_from}")
    part = np.searchsorted(cuts, times, "right")
    labels = np.array(["train", "valid", "test"])[part]
    for name in ("train", "test"):
        if name not in labels:
            raise UserError(
                f"no item is left for the {name} part: the dates run from {times.min()} to "
                f"{times.max()}, the cuts are {valid_from} and {test_from}"
            )
    return Fold.from_labels(labels)


def cut_dates(
    dates: Sequence[str], train: float = 0.8, valid: float = 0.1
) -> tuple[str | None, str]:
    """The dates to cut at so that parts come near their shares; items of one date stay together.

    Args:
        dates: as for `temporal_split`.
        train: share of the earliest items.
        valid: share of those that follow, 0 for none.

    Returns:
        `valid_from` and `test_from` of `temporal_split`, as texts.

    Raises:
        UserError: a date cannot be read, shares do not leave a test part, or there are fewer
            dates than parts.
    """
    if not (train > 0 and valid >= 0 and train + valid < 1):
        raise UserError(f"train is {train} and valid {valid}; they must leave a test part")
    days, counts = np.unique(_times(dates, "item"), return_counts=True)
    if len(days) < (3 if valid else 2):
        raise UserError(f"{len(days)} different dates cannot make {3 if valid else 2} parts")
    before = np.r_[0, counts.cumsum()] / len(dates)  # share of items before each date
    test_from = _nearest(before, train + valid, 2 if valid else 1, len(days) - 1)
    valid_from = _nearest(before, train, 1, test_from - 1) if valid else None
    return None if valid_from is None else _text(days[valid_from]), _text(days[test_from])


def _nearest(before: np.ndarray, share: float, first: int, last: int) -> int:
    """The date, of those that leave every part something, with nearest the share before it."""
    return first + int(np.abs(before[first : last + 1] - share).argmin())


def _text(time: np.datetime64) -> str:
    return str(time).removesuffix("T00:00:00")


def _times(dates: Sequence[str], what: str) -> np.ndarray:
    """(n,) datetime64[s].

    Raises:
        UserError: one cannot be read; named by its number and text.
    """
    times = np.empty(len(dates), "datetime64[s]")
    for index, text in enumerate(dates):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # numpy warns of a time zone, and drops it
                times[index] = np.datetime64(text, "s")
        except (ValueError, TypeError, UserWarning, DeprecationWarning):
            times[index] = np.datetime64("NaT")
        if np.isnat(times[index]):
            raise UserError(
                f"{what} {index}: cannot read the date {text!r}; ISO 8601 without a time zone "
                "is wanted, such as 2015-03-31"
            )
    return times
