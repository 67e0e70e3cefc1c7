"""Properties of generated molecules beside those of known ones."""

from collections.abc import Sequence

import numpy as np

from biofm_jax.evaluate.molecules import parse


def molecule_report(valid: Sequence[str], known: Sequence[str]) -> dict:
    """Means over valid molecules and, as `known_*`, over known ones; empty of neither.

    QED is the quantitative estimate of drug-likeness, 0 to 1 (Bickerton et al. 2012, Nat Chem
    4:90); logP is Crippen's estimate; the weight is in g/mol.

    Args:
        valid: SMILES that rdkit parses.
        known: SMILES to compare with; none: no such figures.

    Raises:
        UserError: rdkit is not installed.
    """
    report = {}
    for prefix, smiles in (("", valid), ("known_", known)):
        if smiles:
            report |= {f"{prefix}{name}_mean": value for name, value in _means(smiles).items()}
    return report


def _means(smiles: Sequence[str]) -> dict[str, float]:
    molecules = parse(smiles)
    from rdkit.Chem import QED, Crippen, Descriptors

    rows = [(QED.qed(m), Descriptors.MolWt(m), Crippen.MolLogP(m)) for m in molecules]
    return dict(zip(("qed", "weight", "logp"), np.mean(rows, axis=0).tolist(), strict=True))
