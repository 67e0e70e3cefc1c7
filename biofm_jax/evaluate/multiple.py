"""Many paired comparisons at once: p values corrected for their number, and a table."""

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.fractions import read_method
from biofm_jax.array_types import typed
from biofm_jax.errors import UserError
from biofm_jax.evaluate.contestants import Contestant, contestant
from biofm_jax.evaluate.metrics import LEVEL, METRICS
from biofm_jax.evaluate.paired import Comparison, compare
from biofm_jax.evaluate.permutation import DRAWS
from biofm_jax.evaluate.results import BASELINE, is_baseline
from biofm_jax.evaluate.table import Row, number

Pair = tuple[Contestant, Contestant]
HEADER = (
    "task",
    "metric",
    "one",
    "other",
    "one - other [95 %]",
    "better",
    "p",
    "p (Holm)",
    "p (Benjamini-Hochberg)",
)


@dataclasses.dataclass(frozen=True)
class Corrected:
    """A comparison among others.

    Attributes:
        comparison: its `p` is that of this comparison alone.
        holm: p adjusted for the chance of a single false finding among all comparisons.
        benjamini_hochberg: p adjusted for the share of false ones among the findings.
    """

    comparison: Comparison
    holm: float
    benjamini_hochberg: float


@typed
def holm(p: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m"]:
    """Adjusted p values: a family-wise error rate by Holm (Scand. J. Statist. 6:65, 1979).

    Raises:
        UserError: a value is not in 0 to 1.
    """
    order, ascending = _ascending(p)
    adjusted = np.maximum.accumulate(ascending * np.arange(len(p), 0, -1))
    return _back(np.minimum(adjusted, 1.0), order)


@typed
def benjamini_hochberg(p: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m"]:
    """Adjusted p values: a false discovery rate (J. R. Statist. Soc. B 57:289, 1995).

    Raises:
        UserError: a value is not in 0 to 1.
    """
    order, ascending = _ascending(p)
    scaled = ascending * len(p) / np.arange(1, len(p) + 1)
    return _back(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _ascending(p) -> tuple[np.ndarray, np.ndarray]:
    if not ((p >= 0) & (p <= 1)).all():
        raise UserError(f"p values are in 0 to 1, these are {p.tolist()}")
    order = np.argsort(p, kind="stable")
    return order, p[order]


def _back(values, order) -> np.ndarray:
    unsorted = np.empty_like(values)
    unsorted[order] = values
    return unsorted


def against_controls(rows: Sequence[Row]) -> list[Pair]:
    """Each model that was run beside a random-initialised control, and that control."""
    return [(contestant(r), contestant(r, control=True)) for r in rows if r.control is not None]


def against_baselines(rows: Sequence[Row]) -> list[Pair]:
    """Each model, and each of the task's simple methods that saw as many labels of the same data.

    Shuffled labels are left out.
    """
    models, floors = [], defaultdict(list)
    for row in rows:
        method, share, shots, shuffled = read_method(row.method)
        key = row.task, row.results[0].data, share, shots
        if shuffled:
            continue
        if method == BASELINE:
            floors[key].append(contestant(row))
        else:
            models.append((key, contestant(row)))
    return [(model, floor) for key, model in models for floor in floors[key]]


def every_pair(rows: Sequence[Row]) -> list[Pair]:
    """Each two models' rows of the same task and data."""
    groups = defaultdict(list)
    for row in rows:
        if not is_baseline(row.method):
            groups[row.task, row.results[0].data].append(contestant(row))
    return [pair for group in groups.values() for pair in itertools.combinations(group, 2)]


def between_models(rows: Sequence[Row]) -> list[Pair]:
    """Each two models of the same task, data and method, by the seeds that both have."""
    groups = defaultdict(list)
    for row in rows:
        if not is_baseline(row.method):
            groups[row.task, row.results[0].data, row.method].append(row)
    pairs = []
    for group in groups.values():
        for one, other in itertools.combinations(group, 2):
            if shared := set(one.seeds) & set(other.seeds):
                pairs.append(tuple(_of_seeds(row, shared) for row in (one, other)))
    return pairs


def _of_seeds(row: Row, seeds: set[int]) -> Contestant:
    return contestant([result for result in row.results if result.seed in seeds])


def compare_all(pairs: Sequence[Pair], *, draws: int = DRAWS, seed: int = 0) -> list[Corrected]:
    """Compare each pair as `paired.compare` does, and correct for the number of pairs.

    Args:
        pairs: all the questions that are asked: a correction for some of them is none.
        draws: of the permutation tests; more are taken where so many comparisons could not
            come out significant with the smallest p value of `draws`.
        seed: of resamples and draws.

    Raises:
        UserError: the items of a pair differ.
    """
    # Twice what the smallest adjusted p value, m / (1 + draws), needs to be under 5 %.
    draws = max(draws, math.ceil(2 * len(pairs) / (1 - LEVEL)))
    comparisons = [compare(one, other, draws=draws, seed=seed) for one, other in pairs]
    p = np.array([comparison.p for comparison in comparisons], np.float64)
    adjusted = holm(p).tolist(), benjamini_hochberg(p).tolist()
    return [Corrected(*parts) for parts in zip(comparisons, *adjusted)]


def comparisons_to_table(
    found: Sequence[Corrected],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A header and one tuple of cells per comparison, as plain text.

    "better" says which value is better even where the difference may be chance.
    """
    cells = []
    for corrected in found:
        c = corrected.comparison
        cells.append(
            (
                c.task,
                METRICS[c.metric].label,
                c.one,
                c.other,
                difference_text(c),
                ("one" if c.better == c.one else "other") if c.difference else "equal",
                *(p_text(p) for p in (c.p, corrected.holm, corrected.benjamini_hochberg)),
            )
        )
    return HEADER, cells


def difference_text(comparison: Comparison) -> str:
    """`+0.034 [-0.010, +0.071]`."""
    value, low, high = (
        ("+" if v > 0 else "") + number(v)
        for v in (comparison.difference, comparison.low, comparison.high)
    )
    return f"{value} [{low}, {high}]"


def p_text(p: float) -> str:
    """Three decimals, or `<0.001`."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
