"""Selective prediction: how the error falls when the least sure predictions are left out."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from biofm_jax.errors import UserError
from biofm_jax.evaluate.figures import CONTROL, MODEL, QUIET, WIDTH, legend_below
from biofm_jax.evaluate.metrics_class import decided

_COLOURS = (MODEL, CONTROL, "#2a8c68", "#7b4ea3", "#c0392b", QUIET)


@dataclasses.dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The curve of El-Yaniv and Wiener (2010), JMLR 11:1605.

    Attributes:
        coverage: (n,) share of the items that are kept, 1/n to 1, the surest first.
        risk: (n,) share of errors among them; items that are equally sure share their errors.
        area: mean risk over all coverages (AURC; Geifman et al. 2019, arXiv:1805.08206).
        excess: what it is above that of a perfect order of the same errors (E-AURC).
        error: at full coverage; a random order has this area.
    """

    coverage: Float[np.ndarray, " n"]
    risk: Float[np.ndarray, " n"]
    area: float
    excess: float
    error: float

    def at(self, coverage: float) -> float:
        """The risk when at least such a share is kept."""
        place = int(np.ceil(round(coverage * len(self.risk), 9))) - 1
        return float(self.risk[max(place, 0)])


def risk_coverage(
    truth: Float[np.ndarray, " n"], probability: Float[np.ndarray, " n"]
) -> RiskCoverage:
    """The curve of a 0/1 label that is decided at a half; sure is what is far from a half.

    Args:
        truth: (n,) 0 or 1.
        probability: (n,) of 1.

    Raises:
        UserError: shapes differ, no items, or what are no labels or probabilities.
    """
    if truth.shape != probability.shape or truth.ndim != 1 or not len(truth):
        raise UserError(f"labels {truth.shape} and probabilities {probability.shape} must be (n,)")
    if not np.isin(truth, (0, 1)).all():
        raise UserError("a risk-coverage curve is of labels 0 and 1")
    if not (np.isfinite(probability).all() and 0 <= probability.min() <= probability.max() <= 1):
        raise UserError("a risk-coverage curve is of probabilities, from 0 to 1")
    wrong = (decided(probability) != truth).astype(float)
    sure = np.abs(probability - 0.5)
    kept = np.arange(1, len(wrong) + 1)
    # Of equally sure items no order is right: each has the mean error of them all.
    _, group = np.unique(-sure, return_inverse=True)
    shared = (np.bincount(group, wrong) / np.bincount(group))[group]
    order = np.argsort(group, kind="stable")
    risk = np.cumsum(shared[order]) / kept
    best = np.cumsum(np.sort(wrong)) / kept
    area = float(risk.mean())
    return RiskCoverage(kept / len(wrong), risk, area, area - float(best.mean()), float(risk[-1]))


def picture(curves: Mapping[str, RiskCoverage]) -> Figure:
    """Risk over coverage of several methods, each by its name."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    for colour, (name, curve) in zip(_COLOURS, curves.items(), strict=False):
        # The first few items are a matter of luck, and would set the scale.
        shown = curve.coverage >= min(20 / len(curve.risk), 1)
        label = f"{name}, area {curve.area:.3f}"
        axis.plot(
            curve.coverage[shown], curve.risk[shown], color=colour, label=label, linewidth=1.4
        )
    axis.set(xlabel="share of trials kept, the surest first", ylabel="share of errors", xlim=(0, 1))
    legend_below(figure, axis)
    return figure
