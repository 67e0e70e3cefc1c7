"""Two methods on the same test items: the difference of a metric, its interval, is it chance."""

import dataclasses

import numpy as np

from biofm_jax.evaluate.contestants import Contestant, check_same_items
from biofm_jax.evaluate.metrics import METRICS, RESAMPLES, interval, metric_value, resampled
from biofm_jax.evaluate.permutation import DRAWS, permutation_test, without_rounding


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One method against another. All values are means over seeds.

    Attributes:
        task: name of the task.
        metric: key of `metrics.METRICS`.
        one: a contestant's name.
        other: the other's.
        items: n.
        seeds: of the one and of the other.
        values: the metric of the one and of the other.
        difference: one - other, in the metric's unit.
        low: lower end of the 95 % interval of the difference over resampled test items.
        high: its upper end.
        p_bootstrap: two-sided, that interval turned into a p value.
        p: two-sided, of the permutation test.
        exact: whether `p` is from all permutations.
    """

    task: str
    metric: str
    one: str
    other: str
    items: int
    seeds: tuple[int, int]
    values: tuple[float, float]
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p: float
    exact: bool

    @property
    def better(self) -> str:
        """The name with the better value; `one` where they are equal."""
        higher = METRICS[self.metric].direction == "higher"
        return self.one if self.difference == 0 or higher == (self.difference > 0) else self.other


def compare(
    one: Contestant,
    other: Contestant,
    *,
    metric: str | None = None,
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """The difference of two methods, with an interval and two p values.

    The interval and `p_bootstrap` are over test items, `p` asks whether predictions could have
    come from either method; see `paired_bootstrap` and `permutation_test`. All take the seeds
    as given: what another seed would do is another question (`Summary.deviation`).

    Args:
        one: a contestant.
        other: another, on the same items.
        metric: key of `metrics.METRICS`; None: the task's.
        resamples: of the test items.
        draws: of the permutation test.
        seed: of resamples and draws.

    Raises:
        UserError: the items differ, or the metric is undefined on them.
    """
    check_same_items(one, other)
    metric = metric or one.metric
    low, high, p_bootstrap = paired_bootstrap(one, other, metric, resamples, seed)
    p, exact = permutation_test(one, other, metric, draws, seed)
    values = tuple(
        float(np.mean([metric_value(metric, c.truth, predicted) for predicted in c.predicted]))
        for c in (one, other)
    )
    return Comparison(
        task=one.task,
        metric=metric,
        one=one.name,
        other=other.name,
        items=len(one.ids),
        seeds=(len(one.predicted), len(other.predicted)),
        values=values,
        difference=values[0] - values[1],
        low=low,
        high=high,
        p_bootstrap=p_bootstrap,
        p=p,
        exact=exact,
    )


def paired_bootstrap(
    one: Contestant, other: Contestant, metric: str, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Interval and p value of the difference over resampled test items.

    Both methods and all seeds see the same resamples, those of `metrics.resampled`. The
    interval is the central 95 % of the resampled differences; the p value is the smallest level
    at which such an interval leaves 0 out, 2 min(#(d <= 0), #(d >= 0)), each count and their
    total one more than counted (Davison and Hinkley, Bootstrap Methods, 1997, chapters 4 and 5).

    Returns:
        Lower and upper end, and the two-sided p value.
    """
    means = [
        np.mean([resampled(metric, c.truth, p, resamples, seed) for p in c.predicted], axis=0)
        for c in (one, other)
    ]
    difference = without_rounding(*means)
    low, high = interval(difference)
    known = difference[~np.isnan(difference)]
    tails = [1 + np.count_nonzero(known <= 0), 1 + np.count_nonzero(known >= 0)]
    return low, high, float(min(1, 2 * min(tails) / (1 + len(known))))
