"""Synthetic accessibility by fragments that known molecules have (Ertl & Schuffenhauer 2009).

The published score (J Cheminform 1:8) counts the fragments of a million molecules of PubChem; they
come with rdkit as a pickle, which is not read here. The fragments are those of the molecules that
a report compares with: scores of two reports with other known molecules cannot be compared, and
none is that of another program.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from biofm_jax.evaluate.molecules import parse, require_rdkit

UNKNOWN = -4.0  # contribution of a fragment that no known molecule has
FREQUENT = 0.8  # share of all fragments that the most frequent kinds make up: contribution 0
LARGE_RING = 8  # atoms; rings of more are macrocycles


@dataclasses.dataclass(frozen=True)
class Accessibility:
    """The score with the fragments of some molecules.

    Attributes:
        contributions: of each fragment: log10 of its count over the number of kinds that make up
            80 % of all fragments. A fragment is an atom with its neighbours up to two bonds away
            (Morgan, radius 2).
    """

    contributions: Mapping[int, float]

    @classmethod
    def of(cls, smiles: Sequence[str]) -> "Accessibility":
        """Count the fragments of molecules.

        Raises:
            UserError: rdkit is not installed, or cannot parse one.
        """
        counts: Counter = Counter()
        for molecule in parse(smiles):
            counts.update(_fragments(molecule))
        ordered = np.sort(np.array(list(counts.values()), np.int64))[::-1]
        # The paper's "number of fragments forming 80 % of all fragments in the database".
        kinds = int(np.searchsorted(ordered.cumsum(), FREQUENT * ordered.sum())) + 1
        return cls({code: math.log10(count / kinds) for code, count in counts.items()})

    def scores(self, smiles: Sequence[str]) -> np.ndarray:
        """(n,) float64, from 1 (easy to make) to 10 (hard).

        Raises:
            UserError: rdkit is not installed, or cannot parse one.
        """
        return np.array([self._score(molecule) for molecule in parse(smiles)], np.float64)

    def _score(self, molecule) -> float:
        found = _fragments(molecule)
        known = sum(self.contributions.get(code, UNKNOWN) * n for code, n in found.items())
        atoms = molecule.GetNumAtoms()
        # In rdkit's form: symmetry (few kinds of fragments for the atoms) makes it easier.
        symmetry = 0.5 * math.log(atoms / len(found)) if atoms > len(found) else 0.0
        raw = known / sum(found.values()) - _complexity(molecule, atoms) + symmetry
        score = 11.0 - (raw + 4.0 + 1.0) / 6.5 * 9.0  # -4 to 2.5 becomes 10 to 1
        if score > 8.0:
            score = 8.0 + math.log(score - 8.0)
        return min(10.0, max(1.0, score))


def _fragments(molecule) -> dict[int, int]:
    """Counts of Morgan environments by code."""
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    generator = GetMorganGenerator(radius=2)
    return generator.GetSparseCountFingerprint(molecule).GetNonzeroElements()


def _complexity(molecule, atoms: int) -> float:
    """Size, stereo centres, spiro and bridgehead atoms, macrocycles."""
    chem = require_rdkit()
    from rdkit.Chem import rdMolDescriptors

    centres = len(chem.FindMolChiralCenters(molecule, includeUnassigned=True))
    large = any(len(ring) > LARGE_RING for ring in molecule.GetRingInfo().AtomRings())
    return (
        atoms**1.005
        - atoms
        + math.log10(centres + 1)
        + math.log10(rdMolDescriptors.CalcNumSpiroAtoms(molecule) + 1)
        + math.log10(rdMolDescriptors.CalcNumBridgeheadAtoms(molecule) + 1)
        + (math.log10(2) if large else 0.0)
    )
