"""Figures of interpretations of images: maps, the pointing game, neighbours, reconstructions."""

import math

import numpy as np
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from biofm_jax.interpret.records import Interpretation

WIDTH = 4.6  # inches, as all pictures of a report
ACROSS = 3  # panels of maps in a row
OVER = 0.6  # opacity of a map on its image
BAR = dict(orientation="horizontal", shrink=0.9, pad=0.03)
MASK, RIGHT, WRONG = "#2ecc71", "#2a8c68", "#c0392b"


def maps(found: Interpretation) -> Figure:
    """The image, and each map over it; signed ones around 0. A mask is outlined."""
    image, values, names = (found.arrays[name] for name in ("image", "maps", "names"))
    mask = found.arrays.get("mask")
    panels = len(values) + 1
    across = 2 if panels == 4 else min(ACROSS, panels)
    rows = math.ceil(panels / across)
    ratio = image.shape[0] / image.shape[1]
    figure = Figure(figsize=(WIDTH, rows * (WIDTH / across * ratio + 0.75)), layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False).reshape(-1)
    for axis in axes:
        axis.set_axis_off()
    axes[0].set_title("image", fontsize=8)
    for axis in axes[:panels]:
        show(axis, image)
        if mask is not None:
            axis.contour(mask, levels=[0.5], colors=MASK, linewidths=0.7)
    # As much room under the image as under the maps, so that all have one size.
    figure.colorbar(axes[0].images[0], ax=axes[0], **BAR).ax.set_visible(False)
    for axis, value, name in zip(axes[1:], values, names):
        most = float(np.quantile(np.abs(value), 0.995)) or 1.0
        signed = value.min() < 0
        # From the lowest: shares of attention differ little from one another.
        low = min(float(value.min()), most - 1e-12)
        norm = TwoSlopeNorm(0.0, -most, most) if signed else Normalize(low, most)
        colours = "RdBu_r" if signed else "inferno"
        drawn = axis.imshow(value, cmap=colours, norm=norm, alpha=OVER, interpolation="nearest")
        axis.set_title(str(name), fontsize=8)
        bar = figure.colorbar(drawn, ax=axis, **BAR)
        bar.ax.tick_params(labelsize=6)
        bar.locator.set_params(nbins=3)
        bar.formatter.set_powerlimits((-2, 3))
        bar.ax.xaxis.get_offset_text().set_fontsize(6)
    return figure


def pointing(found: Interpretation) -> Figure:
    """How often each method's highest place lies in the mask, beside the mask's share of images;
    and the same of the untrained model, where there is one."""
    names, hits, areas = (found.arrays[name] for name in ("names", "hits", "areas"))
    shares, count = hits.mean(1), hits.shape[1]
    low, high = wilson(shares, count)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(names)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(names))[::-1]
    errors = np.stack([shares - low, high - shares])
    axis.barh(places, shares, xerr=errors, color="#1f5fa8", height=0.5, ecolor="#555555", capsize=2)
    if "untrained" in found.arrays:
        control = found.arrays["untrained"].mean(1)
        axis.barh(places - 0.35, control, color="#9aa5b1", height=0.2, label="untrained")
    axis.axvline(areas.mean(), color=WRONG, linestyle="--", label="a place at random")
    axis.set_yticks(places, names)
    axis.set(xlim=(0, 1), xlabel=f"share of {count} images")
    axis.legend(frameon=False, fontsize=8, loc="best")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def neighbours(found: Interpretation) -> Figure:
    """Query images and the nearest others, each with its label: green where it is the query's."""
    queries, near = found.arrays["queries"], found.arrays["found"]
    own, labels = found.arrays["query_labels"], found.arrays["found_labels"]
    similar = found.arrays["similarity"]
    rows, across = near.shape[0], near.shape[1] + 1
    side = WIDTH / across
    high = rows * (side * queries.shape[1] / queries.shape[2] + 0.34)
    figure = Figure(figsize=(WIDTH, high + 0.1), layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False)
    for row in range(rows):
        show(axes[row, 0], queries[row])
        axes[row, 0].set_title(f"query\n{_cut(own[row])}", fontsize=6)
        for column in range(near.shape[1]):
            axis, right = axes[row, column + 1], labels[row, column] == own[row]
            show(axis, near[row, column])
            title = f"{similar[row, column]:.3f}\n{_cut(labels[row, column])}"
            axis.set_title(title, fontsize=6, color=RIGHT if right else WRONG)
    for axis in axes.reshape(-1):
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def reconstruction(found: Interpretation) -> Figure:
    """Each image in a row: whole, as the encoder sees it, and with what was drawn."""
    columns = [found.arrays[name] for name in ("images", "shown", "drawn")]
    rows = len(columns[0])
    side = WIDTH / 3
    high = rows * (side * columns[0].shape[1] / columns[0].shape[2] + 0.04) + 0.3
    figure = Figure(figsize=(WIDTH, high), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False)
    for column, (images, title) in enumerate(zip(columns, ("image", "what is seen", "drawn"))):
        axes[0, column].set_title(title, fontsize=9)
        for row in range(rows):
            show(axes[row, column], images[row])
            axes[row, column].set_axis_off()
    return figure


def show(axis, image: np.ndarray) -> None:
    """An image (h, w, c) in [0, 1]; grey, the mean of its channels, where they are not three."""
    if image.shape[-1] != 3:
        image = image.mean(-1)
    axis.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=1)


def wilson(shares: np.ndarray, count: int, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share of `count` (Wilson 1927)."""
    centre = (shares + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(shares * (1 - shares) / count + z**2 / (4 * count**2))
    return np.minimum(centre - half, shares), np.maximum(centre + half, shares)


def _cut(label) -> str:
    label = str(label).replace("_", " ")
    return label if len(label) <= 12 else f"{label[:11]}…"
