"""The picture of an interpretation."""

import math

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from biofm_jax.interpret import image_pictures
from biofm_jax.interpret.molecule_picture import molecule_figure
from biofm_jax.interpret.records import Interpretation

WIDTH = 4.6  # inches, as all pictures of a report
NAMED = 40  # tokens that fit along an axis by name
PER_ROW = 40  # letters in a row of a heat map
TEXT = 20  # tokens in a row of a text
DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"
COLOURS = ("#1f5fa8", "#b5651d", "#2a8c68", "#7b4ea3", "#c0392b", "#0f8b9d", "#8a8a8a")
CLASSES = len(COLOURS)


def picture(found: Interpretation) -> Figure:
    """The figure of an interpretation, in the layout of its kind."""
    return _DRAWN[found.kind](found)


def _rollout(found: Interpretation) -> Figure:
    return _square(found, found.arrays["flow"], "token read", "token whose state it is")


def _contacts(found: Interpretation) -> Figure:
    return _square(found, found.arrays["contacts"], "residue", "residue", first=1)


def _square(
    found: Interpretation, values: np.ndarray, across: str, down: str, first: int = 0
) -> Figure:
    """A matrix of tokens by tokens, numbered from `first` where there is no room for names."""
    tokens = found.arrays["tokens"]
    low, high = first - 0.5, first + len(tokens) - 0.5
    places = range(first, first + len(tokens))
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axis = figure.subplots()
    # A few very large values, such as those of cls, would leave all others in the dark.
    top = float(np.quantile(values, 0.995))
    extent = (low, high, high, low)
    image = axis.imshow(values, cmap=SEQUENTIAL, vmax=top, interpolation="nearest", extent=extent)
    axis.set(xlabel=across, ylabel=down)
    if len(tokens) <= NAMED:
        axis.set_xticks(places, tokens, rotation=90, fontsize=7)
        axis.set_yticks(places, tokens, fontsize=7)
    figure.colorbar(image, ax=axis, shrink=0.8, label=found.unit, extend="max")
    return figure


def _mutagenesis(found: Interpretation) -> Figure:
    changes, tokens = found.arrays["changes"], found.arrays["tokens"]
    alphabet = found.arrays["alphabet"]
    rows = math.ceil(len(tokens) / PER_ROW)
    width = min(PER_ROW, len(tokens))
    high = 0.4 + 0.115 * len(alphabet)
    figure = Figure(figsize=(max(3.0, WIDTH * width / PER_ROW), rows * high + 0.7),
                    layout="constrained")  # fmt: skip
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    most = float(np.abs(changes).max()) or 1.0
    norm = TwoSlopeNorm(0.0, -most, most)
    for row, axis in enumerate(axes):
        part = slice(row * PER_ROW, min((row + 1) * PER_ROW, len(tokens)))
        block = np.full((len(alphabet), width), np.nan)
        block[:, : part.stop - part.start] = changes[part].T
        image = axis.imshow(block, cmap=DIVERGING, norm=norm, aspect="auto", interpolation="none")
        own = [int(np.flatnonzero(alphabet == letter)[0]) for letter in tokens[part]]
        axis.plot(range(len(own)), own, ".", color="black", markersize=2.5)
        axis.set_yticks(range(len(alphabet)), alphabet, fontsize=5.5)
        axis.set_xticks(
            range(len(own)),
            [f"{letter}\n{place}" if place % 10 == 0 else letter
             for place, letter in enumerate(tokens[part], part.start + 1)],
            fontsize=6,
        )  # fmt: skip
        axis.tick_params(length=0)
    figure.colorbar(image, ax=list(axes), label=found.unit, shrink=0.8, pad=0.01)
    return figure


def _gradients(found: Interpretation) -> Figure:
    """The text itself, each token on the colour of what it adds; of a graph, the molecule."""
    if "smiles" in found.arrays:
        return molecule_figure(
            str(found.arrays["smiles"]), found.arrays["attributions"], found.unit, WIDTH, DIVERGING
        )
    values, tokens = found.arrays["attributions"], found.arrays["tokens"]
    rows = math.ceil(len(tokens) / TEXT)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.42 * rows), layout="constrained")
    axis = figure.subplots()
    most = float(np.abs(values).max()) or 1.0
    block = np.full((rows, min(TEXT, len(tokens))), np.nan)
    block.flat[: len(values)] = values
    norm = TwoSlopeNorm(0.0, -most, most)
    image = axis.imshow(block, cmap=DIVERGING, norm=norm, aspect="auto", interpolation="none")
    for number, (token, value) in enumerate(zip(tokens, values)):
        row, column = divmod(number, block.shape[1])
        axis.text(
            column,
            row,
            token,
            ha="center",
            va="center",
            fontsize=8 if len(token) < 4 else 5,
            color="white" if abs(value) > 0.6 * most else "black",
        )
    axis.set_axis_off()
    figure.colorbar(image, ax=axis, label=found.unit, orientation="horizontal", aspect=40)
    return figure


def _embeddings(found: Interpretation) -> Figure:
    points, labels = found.arrays["points"], found.arrays["labels"]
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    axis = figure.subplots()
    classes = np.unique(labels[~np.isnan(labels)])
    alpha = float(np.clip(20 / np.sqrt(len(points)), 0.25, 0.9))
    unknown = np.isnan(labels)
    if unknown.any():
        axis.scatter(*points[unknown].T, s=8, color="#c8c8c8", label="no label")
    if len(classes) <= CLASSES and (classes == classes.astype(int)).all():
        names = found.arrays.get("classes")
        for colour, value in zip(COLOURS, classes):
            name = f"{value:g}" if names is None else str(names[int(value)])
            axis.scatter(*points[labels == value].T, s=11, alpha=alpha, color=colour, label=name)
        given = axis.get_legend_handles_labels()
        figure.legend(
            *given, title=found.unit, frameon=False, ncols=4, loc="outside lower center", fontsize=9
        )
    else:
        known = ~unknown
        drawn = axis.scatter(*points[known].T, s=11, alpha=alpha, c=labels[known], cmap=SEQUENTIAL)
        figure.colorbar(drawn, ax=axis, label=found.unit)
    shares = found.arrays.get("variance")
    named = ("UMAP 1", "UMAP 2")
    if shares is not None:
        named = [f"component {i + 1} ({share:.0%} of variance)" for i, share in enumerate(shares)]
    axis.set(xlabel=named[0], ylabel=named[1], xticks=[], yticks=[])
    return figure


_DRAWN = {
    "rollout": _rollout,
    "contacts": _contacts,
    "mutagenesis": _mutagenesis,
    "gradients": _gradients,
    "embeddings": _embeddings,
    "maps": image_pictures.maps,
    "pointing": image_pictures.pointing,
    "neighbours": image_pictures.neighbours,
    "reconstruction": image_pictures.reconstruction,
}
