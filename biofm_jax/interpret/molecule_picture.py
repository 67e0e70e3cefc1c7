"""A molecule whose atoms have the colours of numbers, drawn by rdkit."""

import io

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import imread

from biofm_jax.data.molecule import rdkit_chem
from biofm_jax.errors import UserError

HIGH = 3.2  # inches
DOTS = 300  # pixels of the drawing to an inch


def molecule_figure(
    smiles: str, values: np.ndarray, unit: str, width: float, colours: str
) -> Figure:
    """The structural formula, a disc behind each atom in the colour of its number.

    Args:
        smiles: of t atoms.
        values: (t,) numbers, in the order of the SMILES.
        unit: of the numbers.
        width: inches.
        colours: name of a diverging colour map; 0 is its middle.

    Raises:
        UserError: rdkit is not installed, or the SMILES has another number of atoms.
    """
    figure = Figure(figsize=(width, HIGH + 0.6), layout="constrained")
    axis = figure.subplots()
    most = float(np.abs(values).max(initial=0)) or 1.0
    shades = ScalarMappable(TwoSlopeNorm(0.0, -most, most), colormaps[colours])
    size = int(width * DOTS), int(HIGH * DOTS)
    axis.imshow(_drawing(smiles, shades.to_rgba(values)[:, :3], size))
    axis.set_axis_off()
    figure.colorbar(shades, ax=axis, label=unit, orientation="horizontal", aspect=40)
    return figure


def _drawing(smiles: str, colours: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, 4) pixels of the molecule; a bond has its ends' colours, half and half."""
    chem = rdkit_chem()
    from rdkit.Chem.Draw import rdMolDraw2D

    molecule = chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() != len(colours):
        raise UserError(f"{smiles[:60]}: it does not have {len(colours)} atoms")
    drawer = rdMolDraw2D.MolDraw2DCairo(*size)
    options = drawer.drawOptions()
    options.useBWAtomPalette()
    options.fillHighlights = True
    options.highlightRadius = 0.4
    options.atomHighlightsAreCircles = True
    chosen = {number: tuple(map(float, colour)) for number, colour in enumerate(colours)}
    rdMolDraw2D.PrepareAndDrawMolecule(
        drawer,
        molecule,
        highlightAtoms=list(chosen),
        highlightAtomColors=chosen,
        highlightBonds=[],
    )
    drawer.FinishDrawing()
    return imread(io.BytesIO(drawer.GetDrawingText()))
