"""Methods over many tasks: ranks, whether they differ at all, and by how much they must."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from biofm_jax.errors import UserError
from biofm_jax.evaluate.figures import CONTROL as CONTROL_COLOUR
from biofm_jax.evaluate.figures import MODEL, QUIET, WIDTH, png_address, shortened
from biofm_jax.evaluate.metrics import LEVEL
from biofm_jax.evaluate.results import is_baseline
from biofm_jax.evaluate.table import CONTROL, Row

BASELINE = "best baseline of each task"


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Ranks of methods over tasks; 1 is best.

    Attributes:
        methods: m names, by mean rank.
        tasks: n names, of the tasks that all methods have.
        left_out: tasks that some method lacks.
        ranks: (n, m), ties averaged.
        mean: (m,) mean ranks.
        friedman_p: p value of "the methods are all alike" by scipy's Friedman test (a chi2
            approximation: rough under ten tasks); None for fewer than three methods or two
            tasks.
        critical_difference: two methods whose mean ranks are further apart than this differ,
            at a family-wise level of 5 %, by the Nemenyi test; None as above.
    """

    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    ranks: Float[np.ndarray, "n m"]
    mean: Float[np.ndarray, "m"]
    friedman_p: float | None
    critical_difference: float | None


def rank_table(scores: Mapping[str, Mapping[str, float]], directions: Mapping[str, str]) -> Ranks:
    """Rank methods on every task that all of them have.

    Tasks count alike and are taken as independent; splits of one data set are not quite.

    Args:
        scores: method -> task -> value of the task's metric.
        directions: task -> whether "higher" or "lower" values are better.

    Raises:
        UserError: fewer than two methods, or no task that all have.
    """
    if len(scores) < 2:
        raise UserError(f"ranks need two methods or more, not {len(scores)}")
    every = sorted(set().union(*scores.values()))
    tasks = [task for task in every if all(task in found for found in scores.values())]
    if not tasks:
        fewest = min(scores, key=lambda name: len(scores[name]))
        raise UserError(
            f"no task has a result of all {len(scores)} methods; {fewest} has the fewest, "
            f"{len(scores[fewest])} of {len(every)}: leave it out or evaluate it on more"
        )
    better = np.array([1.0 if directions[task] == "lower" else -1.0 for task in tasks])
    values = np.array([[found[task] for found in scores.values()] for task in tasks])
    ranks = stats.rankdata(values * better[:, None], axis=1)
    order = np.argsort(ranks.mean(0), kind="stable")
    names = list(scores)
    testable = len(names) > 2 and len(tasks) > 1
    return Ranks(
        methods=tuple(names[i] for i in order),
        tasks=tuple(tasks),
        left_out=tuple(task for task in every if task not in tasks),
        ranks=ranks[:, order],
        mean=ranks.mean(0)[order],
        friedman_p=_friedman(ranks) if testable else None,
        critical_difference=critical_difference(len(names), len(tasks)) if testable else None,
    )


def _friedman(ranks: np.ndarray) -> float:
    if (ranks == ranks[:, :1]).all():  # every task ties all methods: 0 / 0 in the statistic
        return 1.0
    return float(stats.friedmanchisquare(*ranks.T).pvalue)


def critical_difference(methods: int, tasks: int, level: float = LEVEL) -> float:
    """The Nemenyi test's q sqrt(m (m + 1) / (6 n)), in ranks.

    q is a quantile of the studentized range with infinite degrees of freedom, over sqrt(2).
    (Demsar, JMLR 7:1, 2006, section 3.2.2 and table 5.)

    Args:
        methods: m.
        tasks: n.
        level: 1 - the family-wise error rate.
    """
    q = stats.studentized_range.ppf(level, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * tasks)))


def rank_rows(rows: Sequence[Row]) -> Ranks:
    """Ranks of the rows of a table, baselines' own left out, with the floors they stand on.

    A method is a model with its adaptation. Beside these stand, where all shared tasks have
    them, each adaptation's random-initialised control (of a task's first row) and the best of
    a task's baselines: the best on the test items, so a floor that is a little too high.

    Raises:
        UserError: two states of the data of a task, or as `rank_table`.
    """
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    directions: dict[str, str] = {}
    data: dict[str, str] = {}
    for row in rows:
        if is_baseline(row.method):
            continue
        if data.setdefault(row.task, row.results[0].data) != row.results[0].data:
            raise UserError(
                f"{row.task} was evaluated on two states of its data: rank the results of one"
            )
        directions[row.task] = row.direction
        scores[f"{row.model}, {row.method}"][row.task] = row.value.score.value
        if row.control is not None:
            control = scores[f"{CONTROL}, {row.method}"]
            control.setdefault(row.task, row.control.score.value)
        if row.baselines:
            best = max if row.direction == "higher" else min
            scores[BASELINE][row.task] = best(s.value for s in row.baselines.values())
    models = [found for name, found in scores.items() if not _is_floor(name)]
    shared = set(directions).intersection(*models)
    # A floor must not cost tasks.
    kept = {k: found for k, found in scores.items() if not _is_floor(k) or shared <= found.keys()}
    return rank_table(kept, directions)


def _is_floor(name: str) -> bool:
    return name == BASELINE or name.startswith(CONTROL)


def rank_figure(ranks: Ranks) -> str:
    """A PNG data address: mean ranks, best on top, each task's rank as a faint dot.

    Bars are half a critical difference to either side: where two of them do not overlap, the
    methods differ.
    """
    n, m = ranks.ranks.shape
    figure = Figure(figsize=(WIDTH, 1.1 + 0.34 * m), layout="constrained")
    axis = figure.subplots()
    # Tasks of the same rank lie beside one another.
    lanes = np.linspace(-0.22, 0.22, n) if n > 1 else np.zeros(1)
    for place, (name, mean) in enumerate(zip(ranks.methods, ranks.mean)):
        colour = QUIET if name == BASELINE else CONTROL_COLOUR if _is_floor(name) else MODEL
        axis.plot(ranks.ranks[:, place], place + lanes, ".", color=colour, alpha=0.3, markersize=4)
        if ranks.critical_difference is not None:
            half = ranks.critical_difference / 2
            axis.plot([mean - half, mean + half], [place, place], color=colour, linewidth=2)
        axis.plot(mean, place, "o", color=colour)
    label = f"mean rank over {n} task{'' if n == 1 else 's'} (1 is best)"
    if ranks.critical_difference is not None:
        p = "< 0.001" if ranks.friedman_p < 0.001 else f"= {ranks.friedman_p:.3f}"
        label += f"\ncritical difference {ranks.critical_difference:.2f}; Friedman p {p}"
    axis.set(ylim=(m - 0.5, -0.5), xlim=(0.6, m + 0.4))
    # Under the names too: it is longer than the axis.
    figure.supxlabel(label, fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axis.set_yticks(range(m), [shortened(name, 26) for name in ranks.methods])
    axis.tick_params(axis="y", length=0)
    return png_address(figure)
