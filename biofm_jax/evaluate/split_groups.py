"""Splits that keep groups whole: patients, sites, disease areas, families."""

from collections.abc import Hashable, Sequence

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.evaluate.splits import Fold

PARTS = ("train", "valid", "test")


def group_split(
    groups: Sequence[Hashable], train: float = 0.8, valid: float = 0.1, seed: int = 0
) -> Fold:
    """A split in which all items of a group are in one part.

    Groups, from large to small and in random order where equal, go to a part at random: a part
    that the group still fits into is drawn in proportion to the room it has left. So parts come
    near their shares, and large groups are found in every part that can hold them. A group that
    fits nowhere goes where there is most room. A part left empty takes the smallest group of the
    part with most groups.

    Args:
        groups: n names: of the patient, the site, the disease area of each item.
        train: share of items in the training part.
        valid: share of items in the validation part, 0 for none; the rest is the test part.
        seed: of the order and the draws.

    Raises:
        UserError: an item has no group, shares do not leave a test part, or there are fewer
            groups than parts.
    """
    if not (train > 0 and valid >= 0 and train + valid < 1):
        raise UserError(
            f"train is {train} and valid {valid}; shares above 0 (valid may be 0) that leave "
            "something to test are wanted, such as 0.8 and 0.1"
        )
    part = _assigned(group_codes(groups), np.array([train, valid, 1 - train - valid]), seed)
    return Fold.from_labels(np.array(PARTS)[part])


def group_folds(groups: Sequence[Hashable], folds: int, seed: int = 0) -> tuple[Fold, ...]:
    """Cross-validation by group: fold f tests on part f and validates on part f + 1.

    Every item is tested exactly once; with as many folds as groups it is leave-one-group-out.

    Args:
        groups: n names, as for `group_split`.
        folds: parts of about equal size.
        seed: of the assignment.

    Raises:
        UserError: an item has no group, fewer than three folds, or fewer groups than folds.
    """
    if folds < 3:
        raise UserError(f"folds is {folds}; at least 3 are needed: train, valid, test")
    part = _assigned(group_codes(groups), np.ones(folds), seed)
    labels = np.array(["test", "valid"] + ["train"] * (folds - 2))
    return tuple(Fold.from_labels(labels[(part - fold) % folds]) for fold in range(folds))


def is_missing(value: object) -> bool:
    """Whether a cell of a column says nothing: None, nan or blank."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def group_codes(groups: Sequence[Hashable]) -> np.ndarray:
    """(n,) numbers of the groups, from 0 in order of first appearance.

    Raises:
        UserError: an item has no group: it might belong to any.
    """
    for index, value in enumerate(groups):
        if is_missing(value):
            raise UserError(
                f"item {index} has no group: drop it, or give it a group of its own if it "
                "shares none"
            )
    number = {value: code for code, value in enumerate(dict.fromkeys(groups))}
    return np.array([number[value] for value in groups], np.int64)


def _assigned(group: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """(n,) the part of each item."""
    sizes = np.bincount(group)
    wanted = np.flatnonzero(shares > 0)
    if len(sizes) < len(wanted):
        raise UserError(f"{len(sizes)} groups cannot fill {len(wanted)} parts")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    room = np.where(shares > 0, shares / shares.sum() * len(group), -np.inf)
    part = np.zeros(len(sizes), np.int64)
    for one in order:
        weights = np.where(room >= sizes[one], room, 0.0).cumsum()
        # Without a part to fit into the draw is not used, but made: the order of draws is fixed.
        draw = rng.random() * weights[-1]
        part[one] = weights.searchsorted(draw, "right") if weights[-1] else room.argmax()
        room[part[one]] -= sizes[one]
    for empty in wanted:
        if (part == empty).any():
            continue
        fullest = np.bincount(part).argmax()
        members = order[part[order] == fullest]
        part[members[-1]] = empty  # the order ends with the smallest
    return part[group]
