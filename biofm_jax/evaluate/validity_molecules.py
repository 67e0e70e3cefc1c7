"""Properties of generated molecules beside those of known ones."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from biofm_jax.evaluate.figures import CONTROL, MODEL, WIDTH, legend_below, png
from biofm_jax.evaluate.frechet import fingerprint_frechet
from biofm_jax.evaluate.molecules import parse
from biofm_jax.evaluate.synthesis import Accessibility

COMPARED = 1000  # molecules on each side of a comparison
FEWEST = 50  # molecules from which on a distance is told, or the fragments of known ones

Properties = Mapping[str, np.ndarray]
AXES = {
    "qed": "drug-likeness (QED)",
    "sa": "hard to make (SA, own fragments)",
    "logp": "logP (Crippen)",
    "weight": "weight (g/mol)",
}


def molecule_report(valid: Sequence[str], known: Sequence[str]) -> tuple[dict, bytes | None]:
    """Means over valid molecules and, as `known_*`, over known ones; empty of neither.

    QED is the quantitative estimate of drug-likeness, 0 to 1 (Bickerton et al. 2012, Nat Chem
    4:90); logP is Crippen's estimate; the weight is in g/mol; SA, 1 to 10, is `synthesis`'s.
    The known molecules are cut in two: those compared, at most 1,000, and the rest, which gives
    the fragments of SA. `frechet_ecfp4` is the distance (`frechet`) of generated molecules to the
    rest, `known_frechet_ecfp4` that of the compared ones, both of `frechet_molecules`.

    Args:
        valid: SMILES that rdkit parses.
        known: SMILES to compare with, in random order; none: no such figures.

    Returns:
        The figures, and a PNG of the distributions; None without valid molecules.

    Raises:
        UserError: rdkit is not installed.
    """
    size = min(COMPARED, len(known) // 2)
    compared, rest = known[:size], known[size:]
    if size < FEWEST:
        compared, rest = known, []
    accessible = Accessibility.of(rest) if rest else None
    found = [molecule_properties(smiles, accessible) for smiles in (valid, compared)]
    report: dict = {}
    for prefix, values in zip(("", "known_"), found, strict=True):
        report |= {f"{prefix}{name}_mean": float(v.mean()) for name, v in values.items() if len(v)}
    count = min(len(valid), len(compared), len(rest))
    if count >= FEWEST:
        report["frechet_ecfp4"] = fingerprint_frechet(valid[:count], rest[:count])
        report["known_frechet_ecfp4"] = fingerprint_frechet(compared[:count], rest[:count])
        report["frechet_molecules"] = count
    return report, _figure(*found) if valid else None


def molecule_properties(smiles: Sequence[str], accessible: Accessibility | None) -> Properties:
    """(n,) float64 values by property: qed, weight, logp and, where it can be told, sa."""
    molecules = parse(smiles)
    from rdkit.Chem import QED, Crippen, Descriptors

    functions = {"qed": QED.qed, "weight": Descriptors.MolWt, "logp": Crippen.MolLogP}
    found = {name: np.array([f(m) for m in molecules]) for name, f in functions.items()}
    if accessible is not None:
        found["sa"] = accessible.scores(smiles)
    return found


def _figure(generated: Properties, known: Properties) -> bytes:
    """A PNG with a histogram of each property, shares of the generated and of the known ones."""
    names = [name for name in AXES if name in generated]
    figure = Figure(figsize=(WIDTH, 1.7 * len(names) + 0.4), layout="constrained")
    axes = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        both = np.concatenate([generated[name], known[name]])
        low, high = np.quantile(both, [0.005, 0.995])  # a chain of 100 atoms would be all one sees
        edges = np.linspace(low, high if high > low else low + 1, 31)
        for values, label, colour in (
            (known[name], "known", CONTROL),
            (generated[name], "generated", MODEL),
        ):
            if len(values):
                share = np.full(len(values), 1 / len(values))
                inside = np.clip(values, edges[0], edges[-1])
                axis.hist(
                    inside, edges, weights=share, histtype="step", color=colour, linewidth=1.6,
                    label=f"{label} ({len(values):,})",
                )  # fmt: skip
        axis.set(xlabel=AXES[name], ylabel="share")
    legend_below(figure, axes[-1])
    return png(figure)
