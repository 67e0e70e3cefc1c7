"""Whether generated molecules have the property that was asked for."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.molecule_conditions import BINS, bin_of, properties
from biofm_jax.evaluate.figures import MODEL, QUIET, WIDTH, png
from biofm_jax.evaluate.metrics_number import pearson, spearman

ASKED = "asked_"
AXES = {"logp": "logP", "qed": "QED", "weight": "weight (g/mol)", "tpsa": "TPSA (Å²)"}


def asked_and_reached(
    rows: Sequence[Mapping], clean: Callable[[str], str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By property, the (m,) values asked for and reached, of valid molecules with a condition.

    Args:
        rows: n generated molecules: `text`, and `asked_NAME` for each condition, "" where a
            property is left open.
        clean: as of `validity.judge`.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        wanted = {key.removeprefix(ASKED): value for key, value in row.items()
                  if key.startswith(ASKED) and value != ""}  # fmt: skip
        try:
            reached = properties(clean(row["text"]), list(wanted)) if wanted else {}
        except BadText:
            continue
        for name, value in reached.items():
            pairs.setdefault(name, []).append((wanted[name], value))
    return {name: tuple(np.array(both, np.float64).T) for name, both in sorted(pairs.items())}


def condition_report(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict:
    """By property: how many, mean absolute error in its unit, share in the bin that was asked.

    Where different values were asked for, also Pearson's and Spearman's correlation of asked and
    reached values: 0 of a model that does not listen.
    """
    report: dict = {}
    for name, (asked, reached) in pairs.items():
        same = [bin_of(name, a) == bin_of(name, r) for a, r in zip(asked, reached, strict=True)]
        figures = {
            "molecules": len(asked),
            "error_mean": float(np.abs(asked - reached).mean()),
            "bin_share": float(np.mean(same)),
        }
        if np.ptp(asked) > 0:
            figures["pearson"] = pearson(asked, reached)
            figures["spearman"] = spearman(asked, reached)
        report |= {f"{ASKED}{name}_{key}": value for key, value in figures.items()}
    return report


def condition_figure(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    """A PNG: the reached values of each value asked for, as boxes; the dashed line is obedience."""
    figure = Figure(figsize=(WIDTH * len(pairs), 3.4), layout="constrained")
    axes = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axis, (name, (asked, reached)) in zip(axes, pairs.items(), strict=True):
        values = np.unique(asked)
        width = 1.5 * BINS[name][2]
        axis.boxplot(
            [reached[asked == value] for value in values],
            positions=values,
            widths=width,
            showfliers=False,
            manage_ticks=False,
            medianprops={"color": MODEL, "linewidth": 1.8},
        )
        ends = [values.min() - width, values.max() + width]
        axis.plot(ends, ends, "--", color=QUIET, linewidth=1)
        axis.set(xlabel=f"asked for: {AXES[name]}", ylabel="of the molecules", xlim=ends)
    return png(figure)
