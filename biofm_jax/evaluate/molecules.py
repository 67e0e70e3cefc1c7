"""What evaluation needs of rdkit: parsed molecules and Morgan fingerprints."""

from collections.abc import Sequence

import numpy as np

from biofm_jax.errors import UserError

RADIUS = 2  # bonds: a diameter of 4, hence ECFP4
BITS = 2048


def require_rdkit():
    """Import rdkit with its parser's log off, or say how to install it."""
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise UserError("molecule tasks need rdkit: pip install 'biofm_jax[molecule]'") from error
    RDLogger.DisableLog("rdApp.*")
    return Chem


def parse(smiles: Sequence[str]) -> list:
    """rdkit molecules of n SMILES strings.

    Raises:
        UserError: one does not parse; named by its number and text.
    """
    chem = require_rdkit()
    molecules = [chem.MolFromSmiles(text) for text in smiles]
    for index, (text, molecule) in enumerate(zip(smiles, molecules)):
        if molecule is None:
            raise UserError(f"molecule {index}: rdkit cannot parse the SMILES {text!r}")
    return molecules


def ecfp4(smiles: Sequence[str]) -> np.ndarray:
    """(n, 2048) float32 Morgan fingerprint bits of radius 2, without chirality."""
    molecules = parse(smiles)
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    generator = GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    bits = np.zeros((len(molecules), BITS), np.float32)
    for row, molecule in zip(bits, molecules):
        row[:] = generator.GetFingerprintAsNumPy(molecule)
    return bits


def molecular_weights(smiles: Sequence[str]) -> np.ndarray:
    """(n,) float64 average isotopic weights, g/mol, salts and solvents with the rest."""
    molecules = parse(smiles)
    from rdkit.Chem.Descriptors import MolWt

    return np.array([MolWt(molecule) for molecule in molecules], np.float64)
