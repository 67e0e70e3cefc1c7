"""rdkit, imported where it is needed, and molecules of SMILES with reasons for bad ones."""

import functools

from biofm_jax.data.bad_records import BadText
from biofm_jax.errors import UserError


@functools.cache
def rdkit_chem():
    """rdkit.Chem, with its messages on stderr off: bad molecules are named by the reader."""
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise UserError(
            "molecules need rdkit, which is not installed: pip install 'biofm_jax[molecule]'"
        ) from error
    RDLogger.DisableLog("rdApp.*")
    return Chem


def parsed(text: str):
    """rdkit's molecule of a SMILES.

    Raises:
        BadText: it is a reaction, or rdkit rejects it.
        UserError: rdkit is not installed.
    """
    molecule = rdkit_chem().MolFromSmiles(text)
    if molecule is not None and molecule.GetNumAtoms():
        return molecule
    shown = text if len(text) <= 60 else text[:57] + "..."
    if text.count(">") == 2:  # reactants>agents>products, any of them empty
        raise BadText(
            f"the SMILES {shown!r} is a reaction, not a molecule",
            "give its reactants and products as rows of their own, or drop the row",
        )
    raise BadText(f"rdkit rejects the SMILES {shown!r}", "correct it or drop the row")
