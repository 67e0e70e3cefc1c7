"""One picture of an ablation: every variant on every task, with intervals and floors."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from biofm_jax.evaluate.table import Row, metric_text

MODEL, CONTROL, FLOOR = "#1f5fa8", "#b5651d", "#6b6b6b"


def comparison_figure(rows: Sequence[Row]) -> bytes:
    """A PNG with one panel per task: a dot and its 95 % interval for every model.

    Small strokes are single seeds, the last line of a panel is the random-initialised control of
    its first model, dashed lines are the task's baselines.
    """
    tasks = list(dict.fromkeys(row.task for row in rows))
    figure = Figure(figsize=(3.4 * len(tasks), 3.1), layout="constrained")
    axes = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, [row for row in rows if row.task == task])
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=140, format="png")
    return buffer.getvalue()


def _panel(axis, rows: Sequence[Row]) -> None:
    entries = [(row.model, row.value, [r.score.value for r in row.results], MODEL) for row in rows]
    controlled = [row for row in rows if row.control is not None]
    if controlled:
        first = controlled[0]
        seeds = [r.control.value for r in first.results if r.control is not None]
        entries.append(("random control", first.control, seeds, CONTROL))
    for place, (_, summary, seeds, colour) in enumerate(entries):
        score = summary.score
        axis.plot([score.low, score.high], [place, place], color=colour, linewidth=2)
        axis.plot(seeds, [place] * len(seeds), "|", color=colour, markersize=11)
        axis.plot(score.value, place, "o", color=colour)
    for style, (name, score) in zip(("--", ":", "-."), rows[0].baselines.items(), strict=False):
        axis.axvline(score.value, linestyle=style, color=FLOOR, linewidth=1, label=name)
    axis.set(title=rows[0].task, xlabel=metric_text(rows[0]), ylim=(len(entries) - 0.5, -0.5))
    axis.set_yticks(range(len(entries)), [name for name, *_ in entries])
    axis.tick_params(axis="y", length=0)
    if rows[0].baselines:
        # Below the panel: inside it would cover a dot.
        axis.legend(
            frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2
        )
    axis.spines[["top", "right"]].set_visible(False)
