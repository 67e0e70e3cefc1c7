"""Pictures of the report, as PNG data addresses: loss curves, predicted against true, ROC."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_curve

from biofm_jax.evaluate.calibration import Calibration
from biofm_jax.evaluate.metrics import METRICS
from biofm_jax.evaluate.results import Result

MODEL, CONTROL, QUIET = "#1f5fa8", "#b5651d", "#8a8a8a"
DPI = 180
MOST_COUNTS = 10  # classes whose counts can be read in a matrix
# Inches; one for all, so that letters have one size on the page, and narrow, so that they can
# still be read on a telephone.
WIDTH = 4.6
LETTERS = 40  # that stand beside one another under a picture


def loss_curve(rows: Sequence[dict]) -> str | None:
    """Training and held-out loss over steps; None if no step has a loss."""
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axis = figure.subplots()
    for name, label, colour in (
        ("loss", "training", MODEL),
        ("validation_loss", "held out", CONTROL),
    ):
        points = [(row["step"], row[name]) for row in rows if name in row and "step" in row]
        if points:
            style = "o-" if len(points) < 30 else "-"
            axis.plot(*zip(*points), style, color=colour, label=label, markersize=3, linewidth=1.4)
    if not axis.lines:
        return None
    axis.set(xlabel="step", ylabel="loss")
    axis.legend(frameon=False)
    return png_address(figure)


def predictions(result: Result) -> str:
    """ROC curves of a binary label, confusion matrices of classes, else predicted against true."""
    given = [("model", result.predictions.predicted, MODEL)]
    if result.predictions.control is not None:
        given.append(("random-initialised control", result.predictions.control, CONTROL))
    metric = METRICS[result.metric]
    if metric.kind == "binary":
        return _roc(result, given)
    return _confusion(result, given) if metric.classes else _scatter(result, given)


def _roc(result: Result, given) -> str:
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axis = figure.subplots()
    truth = result.predictions.truth
    for label, predicted, colour in given:
        for column in range(truth.shape[1]):
            have = ~np.isnan(truth[:, column])
            false, true, _ = roc_curve(truth[have, column], predicted[have, column])
            axis.plot(
                false, true, color=colour, label=None if column else label, alpha=0.9, linewidth=1.6
            )
    axis.plot([0, 1], [0, 1], "--", color=QUIET, linewidth=1, label="chance")
    axis.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    legend_below(figure, axis)
    return png_address(figure)


def reliability(found: Calibration) -> str:
    """Observed share of ones against predicted probability, with 95 % Wilson intervals."""
    bins = [each for each in found.bins if each.n]
    x, y = ([getattr(each, name) for each in bins] for name in ("predicted", "observed"))
    spread = [
        [each.observed - each.observed_low for each in bins],
        [each.observed_high - each.observed for each in bins],
    ]
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], "--", color=QUIET, linewidth=1)
    axis.errorbar(x, y, spread, fmt="o-", color=MODEL, markersize=3, linewidth=1.4, capsize=2)
    axis.set(xlabel="predicted probability of 1", ylabel="observed share of 1", aspect="equal")
    return png_address(figure)


def _scatter(result: Result, given) -> str:
    figure = Figure(figsize=(WIDTH, 2.6 if len(given) > 1 else 3.4), layout="constrained")
    axes = figure.subplots(1, len(given), sharex=True, sharey=True, squeeze=False)[0]
    truth = result.predictions.truth.ravel()
    # Points grow fainter with their number, so that a dense cloud keeps its shape.
    alpha = float(np.clip(60 / np.sqrt(len(truth)) / 3, 0.12, 0.7))
    span = [np.nanmin(truth), np.nanmax(truth)]
    unit = f" ({result.unit})" if result.unit else ""
    for axis, (label, predicted, colour) in zip(axes, given):
        axis.plot(span, span, "--", color=QUIET, linewidth=1)
        axis.scatter(truth, predicted.ravel(), s=9, alpha=alpha, color=colour, linewidths=0)
        axis.set(title=label, xlabel=f"true{unit}")
    axes[0].set_ylabel(f"predicted{unit}")
    return png_address(figure)


def _confusion(result: Result, given) -> str:
    """How many items of each true class got which class; the colour is their share of the row."""
    truth = result.predictions.truth
    have = ~np.isnan(truth)
    there = np.unique(np.concatenate([truth[have], *(p[have] for _, p, _ in given)]))
    named = dict(enumerate(result.classes))
    names = [shortened(named.get(number, f"{number:g}"), 24) for number in there]
    longest = max(map(len, names))
    too_wide = longest * len(names) * len(given) > LETTERS
    height = 1.2 + max(1.4, 0.22 * len(names)) + (0.09 * longest if too_wide else 0)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(1, len(given), sharey=True, squeeze=False)[0]
    for axis, (label, predicted, _) in zip(axes, given):
        counts = confusion_matrix(truth[have], predicted[have], labels=there)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(counts) if len(there) <= MOST_COUNTS else ():
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=8)
        # Names of classes leave little room beside them: a title of two lines is never cut.
        axis.set(title=label.replace(" ", "\n"), xlabel="predicted")
        axis.set_xticks(range(len(there)), names, rotation=90 if too_wide else 0)
        axis.set_yticks(range(len(there)), names)
    axes[0].set_ylabel("true")
    return png_address(figure)


def shortened(name: str, letters: int = 36) -> str:
    """A name that fits beside a panel: of a long path the end, which says more."""
    return name if len(name) <= letters else "…" + name[1 - letters :]


def legend_below(figure: Figure, axis) -> None:
    """The legend of a panel, under it: inside it would cover a point."""
    given = axis.get_legend_handles_labels()
    columns = 1 if max(map(len, given[1])) > 26 else 2
    figure.legend(*given, frameon=False, fontsize=9, ncols=columns, loc="outside lower center")


def png_address(figure: Figure) -> str:
    """A finished figure as a PNG data address, in the style of the page."""
    return "data:image/png;base64," + base64.b64encode(png(figure)).decode()


def png(figure: Figure) -> bytes:
    """A finished figure as a PNG file, in the style of the page."""
    for axis in figure.axes:
        if not axis.images:
            axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
