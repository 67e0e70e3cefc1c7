"""What a result says beside its score, in words: calibration, conformal sets, subgroups."""

from biofm_jax.evaluate.conformal import Coverage
from biofm_jax.evaluate.metrics import METRICS
from biofm_jax.evaluate.recalibration import FEWEST, Temperature
from biofm_jax.evaluate.results import Result
from biofm_jax.evaluate.subgroups import Subgroups
from biofm_jax.evaluate.table import number, with_interval

SUBGROUP_HEADER = ("column", "group", "test items", "value [95 %]", "")


def calibration_lines(result: Result) -> list[str]:
    """Sentences on calibration: before, by temperature, by conformal prediction.

    What was not done says why. Empty for a result of class numbers, or of an old version.
    """
    lines = []
    if found := result.calibration:
        lines.append(
            f"Expected calibration error {with_interval(found.ece)}; probabilities that are "
            f"exactly right would show {with_interval(found.ece_by_chance)}. "
            f"Brier score {with_interval(found.brier)}."
        )
    again = result.recalibration
    kind = METRICS[result.metric].kind
    if again is None:
        if not METRICS[result.metric].classes:
            lines.append(
                "No conformal prediction: half of the validation part must hold "
                f"{FEWEST} labels, and the method saw {result.n_valid:,} in all."
            )
        return lines
    lines.append(
        f"Calibrated on {again.n_calibration:,} validation items that a second adaptation did "
        f"not see; with the other {again.n_valid:,} it reaches "
        f"{METRICS[result.metric].label} {with_interval(again.score)}."
    )
    if again.temperature is not None:
        lines.append(temperature_text(again.temperature))
    unit = result.unit if kind == "number" else "classes"
    several = len(again.conformal) > 1
    lines += [
        (f"{column.label}: " if several else "") + conformal_text(column.coverage, unit)
        for column in again.conformal
        if column.coverage is not None
    ]
    return lines + [f"Not done: {note}." for note in again.notes]


def temperature_text(found: Temperature) -> str:
    """The temperatures, and what they change."""
    values = [value for fold in found.values for value in fold if value is not None]
    low, high = min(values), max(values)
    text = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
    one, other = found.before, found.after
    return (
        f"Temperature {text}: expected calibration error {number(one.ece.value)} before, "
        f"{number(other.ece.value)} after; Brier score {number(one.brier.value)} before, "
        f"{number(other.brier.value)} after."
    )


def conformal_text(found: Coverage, unit: str = "") -> str:
    """Promised and measured coverage, and how wide the intervals or sets are.

    Args:
        found: the coverage.
        unit: of the label, empty if it has none; `classes` for sets.
    """
    what, size = ("sets", "size") if unit == "classes" else ("intervals", "width")
    text = (
        f"Conformal {what} promise {found.nominal:.0%} coverage and have "
        f"{with_interval(found.coverage)}; mean {size} {number(found.size)}"
        f"{f' {unit}' if unit else ''}."
    )
    if found.broken:
        text += " The promise is broken: the test items are not like the validation items."
    return text


def subgroup_table(result: Result) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A header and one tuple of cells per group, as plain text.

    The best group of a column comes first; the last line of a column is the gap between its best
    and worst, and whether it may be chance.
    """
    return SUBGROUP_HEADER, [cells for found in result.subgroups for cells in _lines(found)]


def _lines(found: Subgroups) -> list[tuple[str, ...]]:
    lines = [
        (found.column, group.name, f"{group.n:,}", with_interval(group.score), "")
        for group in found.groups
    ]
    lines += [
        (found.column, group.name, f"{group.n:,}", "not judged", group.reason)
        for group in found.left_out
    ]
    if (gap := found.gap) is not None:
        chance = "may be chance" if gap.score.low <= 0 else "more than chance"
        lines.append(
            (
                found.column,
                f"gap between {gap.best} and {gap.worst}",
                "",
                with_interval(gap.score),
                chance,
            )
        )
    return lines
