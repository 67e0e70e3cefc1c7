"""How a score grows with the number of labels: label-fraction and few-shot curves."""

import base64
import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from biofm_jax.adapt.fractions import read_method
from biofm_jax.errors import UserError
from biofm_jax.evaluate.figures import (
    CONTROL,
    MODEL,
    QUIET,
    WIDTH,
    legend_below,
    png_address,
    shortened,
)
from biofm_jax.evaluate.metrics import METRICS, Score
from biofm_jax.evaluate.results import BASELINE
from biofm_jax.evaluate.table import CONTROL as CONTROL_NAME
from biofm_jax.evaluate.table import Row, Summary, metric_text

Over = Literal["share", "shots"]

_COLOURS = (MODEL, "#2a8c68", "#7b4ea3", "#c0392b", "#0f8b9d")
_STYLES = {
    "model": ("o", MODEL),
    "control": ("s", CONTROL),
    "shuffled": ("x", "#c9a227"),
    "baseline": ("d", QUIET),
}
_FLOOR_STYLES = ("--", ":", "-.")


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a curve.

    Attributes:
        label: as printed.
        kind: whose: a "model", its random-initialised "control", a model with "shuffled"
            labels, or a "baseline".
        x: ascending shares (1 = all) or shots per class.
        scores: one for each x.
    """

    label: str
    kind: Literal["model", "control", "shuffled", "baseline"]
    x: tuple[float, ...]
    scores: tuple[Score, ...]


def curve_lines(rows: Sequence[Row], over: Over = "share") -> list[Line]:
    """The lines of a task's results at several numbers of labels.

    Args:
        rows: of one task and one state of its data; methods named by `fractions.method_name`.
            Rows of model NAME with method `baseline`, `baseline@3%`, ... are a simple method's.
        over: what varies: the share of the labels, or the shots. Rows of the other are left
            out.

    Returns:
        Models first, then controls (once where several are the same), shuffled labels and
        baselines. A line may have a single point.

    Raises:
        UserError: rows of several tasks or states of the data.
    """
    kinds = {(row.task, row.results[0].data) for row in rows}
    if len(kinds) > 1:
        raise UserError(f"a curve is of one task and one state of its data, not of {sorted(kinds)}")
    points: dict[tuple[str, str], dict[float, Summary]] = defaultdict(dict)
    for row in rows:
        method, share, shots, shuffled = read_method(row.method)
        x = share if over == "share" else shots
        if x is None:
            continue
        if method == BASELINE and not shuffled:
            points["baseline", row.model][x] = row.value
            continue
        # A long label loses its start: what kind of line it is stands at the end.
        label = f"{row.model}, {method}"
        if shuffled:
            points["shuffled", f"{label}, shuffled labels"][x] = row.value
            continue
        points["model", label][x] = row.value
        if row.control is not None:
            points["control", f"{label}, {CONTROL_NAME}"][x] = row.control
    lines = [
        Line(label, kind, tuple(sorted(found)), tuple(found[x].score for x in sorted(found)))
        for (kind, label), found in points.items()
    ]
    lines.sort(key=lambda line: ("model", "control", "shuffled", "baseline").index(line.kind))
    return _without_twins(lines)


def _without_twins(lines: list[Line]) -> list[Line]:
    """The lines, those of equal controls (same architecture and seeds) once."""
    kept: list[Line] = []
    for line in lines:
        twin = any((k.kind, k.x, k.scores) == (line.kind, line.x, line.scores) for k in kept)
        if line.kind != "control" or not twin:
            kept.append(line)
    controls = [line for line in kept if line.kind == "control"]
    if len(controls) == 1:
        kept[kept.index(controls[0])] = dataclasses.replace(controls[0], label=CONTROL_NAME)
    return kept


def label_curve(rows: Sequence[Row], over: Over = "share") -> str | None:
    """A PNG data address of `curve_lines` on a logarithmic axis, with 95 % intervals.

    A baseline without results at several numbers of labels is a level line, from its score
    with all labels.

    Args:
        rows: as of `curve_lines`.
        over: as of `curve_lines`.

    Returns:
        The picture; None if no model has two points.
    """
    lines = curve_lines(rows, over)
    if not any(line.kind == "model" and len(line.x) > 1 for line in lines):
        return None
    lines = [line for line in lines if line.kind != "baseline" or len(line.x) > 1]
    figure = Figure(figsize=(WIDTH, 2.9 + 0.18 * len(lines)), layout="constrained")
    axis = figure.subplots()
    ticks = sorted({x for line in lines for x in line.x})
    # Lines stand a little apart, or one interval would hide another.
    most = min(0.015 * (len(lines) - 1), 0.09)
    for shift, line in zip(np.exp(np.linspace(-most, most, len(lines))), lines):
        place = [other for other in lines if other.kind == line.kind].index(line)
        _draw(axis, line, np.array(line.x) * shift, place)
    drawn = {line.label for line in lines if line.kind == "baseline"}
    # A baseline's own rows have none beside them.
    floors = next((row.baselines for row in rows if row.baselines), {})
    flat = {name: s for name, s in floors.items() if name not in drawn}
    for style, (name, score) in zip(_FLOOR_STYLES, flat.items(), strict=False):
        label = f"{name}, all labels"
        axis.axhline(score.value, linestyle=style, color=QUIET, linewidth=1, label=label)
    texts = [f"{100 * x:g} %" if over == "share" else f"{x:g}" for x in ticks]
    axis.set_xscale("log")
    axis.set_xticks(ticks, texts)
    axis.set_xticks([], minor=True)
    axis.set(xlabel=_x_label(rows[0], over), ylabel=metric_text(rows[0]), title=rows[0].task)
    legend_below(figure, axis)
    return png_address(figure)


def _x_label(row: Row, over: Over) -> str:
    if over == "share":
        return "share of the training labels"
    kind = METRICS[row.metric].kind
    if kind == "residue":
        return "training sequences"
    return "training labels" + ("" if kind == "number" else " per class")


def _draw(axis, line: Line, x: np.ndarray, place: int) -> None:
    """A line; `place` is its number among those of its kind."""
    marker, colour = _STYLES[line.kind]
    style = "-"
    if line.kind == "model":
        colour = _COLOURS[place % len(_COLOURS)]
    else:
        style = _FLOOR_STYLES[place % len(_FLOOR_STYLES)]
    values = np.array([[s.value, s.low, s.high] for s in line.scores]).T
    axis.plot(
        x,
        values[0],
        marker + style,
        color=colour,
        label=shortened(line.label, 48),
        markersize=4,
        linewidth=1.5,
    )
    axis.vlines(x, values[1], values[2], color=colour, linewidth=1, alpha=0.7)


def label_curves(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The curve of every task that has results at several numbers of labels.

    Returns:
        A title and a PNG data address of each, in the order of `rows`.
    """
    groups = defaultdict(list)
    for row in rows:
        groups[row.task, row.results[0].data].append(row)
    found = []
    for (task, _), group in groups.items():
        for over in ("share", "shots"):
            if (picture := label_curve(group, over)) is not None:
                found.append((f"{task}: score by {_x_label(group[0], over)}", picture))
    return found


def label_pictures(rows: Sequence[Row]) -> dict[str, bytes]:
    """The curve over shares of the labels of every task that has one, as a PNG file's bytes."""
    tasks: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        tasks[row.task].append(row)
    found = {task: label_curve(group) for task, group in tasks.items()}
    return {
        task: base64.b64decode(picture.partition(",")[2])
        for task, picture in found.items()
        if picture is not None
    }
