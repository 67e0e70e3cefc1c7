"""A metric by group (site, sex, age band, scaffold, ...) and the gap between best and worst."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.errors import UserError
from biofm_jax.evaluate.bootstrap import Score, interval, resampled_counts, widest_gap
from biofm_jax.evaluate.item_metrics import ITEM_METRICS, item_value
from biofm_jax.evaluate.metrics import METRICS, metric_block, metric_value

FEWEST = 20  # items; an interval of fewer says little
NO_VALUE = "(no value)"
SMALL_BY_NAME = 10  # more small groups than these, such as scaffolds, are counted, not named


@dataclasses.dataclass(frozen=True)
class Group:
    """The metric within one group of test items."""

    name: str
    n: int
    score: Score


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A group that could not be judged, and why."""

    name: str
    n: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Gap:
    """The distance between the best and the worst group, and its 95 % interval.

    Attributes:
        best: group with the best value.
        worst: group with the worst one.
        score: their distance (not negative); an interval that holds 0 leaves open whether these
            groups differ at all.
    """

    best: str
    worst: str
    score: Score


@dataclasses.dataclass(frozen=True)
class Subgroups:
    """A metric by the groups of one column.

    Attributes:
        column: what the items are grouped by.
        metric: key of `METRICS` or `ITEM_METRICS`.
        groups: those that could be judged, best first.
        left_out: those that could not, by name; more than ten small ones are one entry.
        gap: None with fewer than two groups.
    """

    column: str
    metric: str
    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    gap: Gap | None


def subgroup_scores(
    metric: str,
    truth: Float[np.ndarray, "n k"],
    predicted: Float[np.ndarray, "n k"],
    column: str,
    values: Sequence[Hashable],
    fewest: int = FEWEST,
) -> Subgroups:
    """A metric of `METRICS` within every group.

    Args:
        metric: its name.
        truth: (n, k) labels, nan = missing.
        predicted: (n, k) predictions.
        column: name of the grouping column.
        values: n values of that column; None, nan and "" mean that there is none.
        fewest: items below which a group is left out.

    Raises:
        UserError: the column has another length, or the metric is undefined on all items.
    """
    return _subgroups(
        metric,
        METRICS[metric].direction,
        lambda rows: metric_value(metric, truth[rows], predicted[rows]),
        lambda rows, counts: metric_block(metric, truth[rows], predicted[rows], counts),
        len(truth),
        column,
        values,
        fewest,
    )


def subgroup_items(
    metric: str,
    items: np.ndarray,
    column: str,
    values: Sequence[Hashable],
    fewest: int = FEWEST,
) -> Subgroups:
    """A metric of `ITEM_METRICS` within every group.

    Args:
        metric: its name; not the coverage, of which no value is the best.
        items: what `ITEM_METRICS[metric].items` gave, n rows.
        column: name of the grouping column.
        values: n values of that column.
        fewest: items below which a group is left out.

    Raises:
        UserError: the column has another length, or the metric has no better side.
    """
    known = ITEM_METRICS[metric]
    if known.direction == "nominal":
        raise UserError(f"{known.label} has no best group: no value but the nominal one is better")
    return _subgroups(
        metric,
        known.direction,
        lambda rows: item_value(metric, items[rows]),
        lambda rows, counts: known.block(items[rows], counts),
        len(items),
        column,
        values,
        fewest,
    )


def _subgroups(
    metric: str,
    direction: str,
    value: Callable[[np.ndarray], float],
    block: Callable[[np.ndarray, np.ndarray], np.ndarray],
    n: int,
    column: str,
    values: Sequence[Hashable],
    fewest: int,
) -> Subgroups:
    if len(values) != n:
        raise UserError(f"{column} has {len(values)} values, but there are {n} test items")
    value(np.arange(n))  # what is wrong with all items is no property of a group
    found, left_out, small = [], [], []
    for name, rows in _members(values).items():
        try:
            if name == NO_VALUE:
                raise UserError(f"{column} is missing")
            if len(rows) < fewest:
                small.append(LeftOut(name, len(rows), f"fewer than {fewest} items"))
                continue
            found.append((value(rows), name, rows))
        except UserError as error:
            left_out.append(LeftOut(name, len(rows), str(error)))
    if len(small) > SMALL_BY_NAME:
        n = sum(group.n for group in small)
        small = [LeftOut(f"{len(small)} groups", n, f"fewer than {fewest} items each")]
    left_out += small
    found.sort(key=lambda group: group[0], reverse=direction == "higher")
    groups, gap = (), None
    if found:
        # Items of all groups are drawn together: groups of one size must not share their draws.
        draws = resampled_counts(
            lambda counts: np.stack([block(rows, counts[:, rows]) for _, _, rows in found], 1),
            n,
        )
        groups = tuple(
            Group(name, len(rows), Score(middle, *interval(draws[:, place])))
            for place, (middle, name, rows) in enumerate(found)
        )
    if len(found) > 1:
        score = widest_gap(np.array([middle for middle, _, _ in found]), draws)
        gap = Gap(groups[0].name, groups[-1].name, score)
    by_name = tuple(sorted(left_out, key=lambda group: group.name))
    return Subgroups(column, metric, groups, by_name, gap)


def _members(values: Sequence[Hashable]) -> dict[str, np.ndarray]:
    """Row numbers of each group, by its name as text."""
    names = [NO_VALUE if v is None or v == "" or v != v else str(v) for v in values]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return {name: np.array(found) for name, found in rows.items()}
