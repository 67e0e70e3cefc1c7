"""One picture of an ablation: every variant on every task, with intervals and floors."""

import dataclasses
import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from biofm_jax.evaluate.metrics import Score
from biofm_jax.evaluate.table import Row, metric_text

MODEL, CONTROL, FLOOR = "#1f5fa8", "#b5651d", "#6b6b6b"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of a panel.

    Attributes:
        name: as printed.
        score: the dot and the bar around it.
        seeds: the value of each seed.
        colour: of all three.
    """

    name: str
    score: Score
    seeds: Sequence[float]
    colour: str = MODEL


@dataclasses.dataclass(frozen=True)
class Panel:
    """One set of values that can be compared.

    Attributes:
        title: above it.
        unit: what the values are.
        entries: from top to bottom.
        floors: name -> value of what every entry should beat.
    """

    title: str
    unit: str
    entries: Sequence[Entry]
    floors: Mapping[str, float] = dataclasses.field(default_factory=dict)


def comparison_figure(rows: Sequence[Row]) -> bytes:
    """A PNG with one panel per task: a dot and its 95 % interval for every model.

    Small strokes are single seeds, the last line of a panel is the random-initialised control of
    its first model, dashed lines are the task's baselines.
    """
    tasks = dict.fromkeys(row.task for row in rows)
    return panel_figure([_task_panel([row for row in rows if row.task == task]) for task in tasks])


def panel_figure(panels: Sequence[Panel]) -> bytes:
    """A PNG of panels side by side, as wide as their names and labels need."""
    lines = max(len(panel.entries) for panel in panels)
    figure = Figure(layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel)
    figure.set_size_inches(_width(axes), max(3.1, 1.6 + 0.25 * lines))
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=140, format="png")
    return buffer.getvalue()


def _width(axes) -> float:
    """Inches in which no name, title or label of the panels is cut."""

    def inches(texts) -> float:
        return max(text.get_window_extent().width for text in texts) / axes[0].figure.dpi

    names = sum(inches(axis.get_yticklabels()) for axis in axes)
    inner = inches([text for axis in axes for text in (axis.title, axis.xaxis.label)])
    return names + len(axes) * (max(2.8, inner) + 0.3)


def _task_panel(rows: Sequence[Row]) -> Panel:
    methods = {row.method for row in rows}
    entries = [
        Entry(
            row.model if len(methods) == 1 else f"{row.model}, {row.method}",
            row.value.score,
            [r.score.value for r in row.results],
        )
        for row in rows
    ]
    controlled = [row for row in rows if row.control is not None]
    for method in dict.fromkeys(row.method for row in controlled):
        first = next(row for row in controlled if row.method == method)
        name = "random control" if len(methods) == 1 else f"random control, {method}"
        seeds = [r.control.value for r in first.results if r.control is not None]
        entries.append(Entry(name, first.control.score, seeds, CONTROL))
    floors = {name: score.value for name, score in rows[0].baselines.items()}
    return Panel(rows[0].task, metric_text(rows[0]), entries, floors)


def _draw(axis, panel: Panel) -> None:
    for place, entry in enumerate(panel.entries):
        score, colour = entry.score, entry.colour
        axis.plot([score.low, score.high], [place, place], color=colour, linewidth=2)
        axis.plot(entry.seeds, [place] * len(entry.seeds), "|", color=colour, markersize=11)
        axis.plot(score.value, place, "o", color=colour)
    for style, (name, value) in zip(("--", ":", "-."), panel.floors.items(), strict=False):
        axis.axvline(value, linestyle=style, color=FLOOR, linewidth=1, label=name)
    lines = len(panel.entries)
    axis.set(title=panel.title, xlabel=panel.unit, ylim=(lines - 0.5, -0.5))
    axis.set_yticks(range(lines), [entry.name for entry in panel.entries])
    axis.tick_params(axis="y", length=0)
    if panel.floors:
        # Below the panel: inside it would cover a dot.
        axis.legend(
            frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2
        )
    axis.spines[["top", "right"]].set_visible(False)
