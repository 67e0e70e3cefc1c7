"""What becomes of a molecule before it is a record: salts, tautomers, and what is refused."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal, get_args, get_type_hints

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.chemistry import parsed, rdkit_chem
from biofm_jax.errors import UserError

RECORDED = "policy."  # before a field's name in the metadata of prepared data


@dataclasses.dataclass(frozen=True)
class MoleculePolicy:
    """How molecules are standardised; recorded with the prepared data.

    Stereochemistry, charges and isotopes are kept by every policy but `tautomers`: the canonical
    tautomer has no stereochemistry where a hydrogen may have moved (rdkit's default).
    """

    salts: Literal["keep", "largest", "refuse"] = "keep"
    """Of several components (`.`): keep all, the largest organic one, or refuse the record. What
    is left of a salt keeps its charge."""
    tautomers: Literal["keep", "canonical"] = "keep"
    """As written, or rdkit's canonical tautomer, at some hundred molecules a second."""
    inorganic: Literal["keep", "refuse"] = "keep"
    """Molecules without a carbon atom."""
    polymers: Literal["keep", "refuse"] = "keep"
    """Molecules with a dummy atom (`*`): repeat units of polymers, fragments, R-groups."""
    duplicates: Literal["keep", "refuse"] = "keep"
    """Records of a molecule that an earlier one has, after all of the above."""

    def __post_init__(self):
        for name, hint in get_type_hints(type(self)).items():
            if (value := getattr(self, name)) not in get_args(hint):
                raise UserError(
                    f"data.policy.{name} is {value!r}; choose one of {', '.join(get_args(hint))}"
                )

    def standardised(self, text: str) -> str:
        """Canonical SMILES under this policy.

        Raises:
            BadText: rdkit rejects the SMILES, or the policy refuses the molecule.
            UserError: rdkit is not installed.
        """
        molecule = parsed(text)
        if self.salts != "keep" and "." in text:
            molecule = self._one_component(molecule, text)
        if self.polymers == "refuse" and any(not a.GetAtomicNum() for a in molecule.GetAtoms()):
            raise BadText(
                f"{_shown(text)} has a dummy atom (*), as polymers and fragments do",
                "drop the row, or set policy.polymers to keep",
            )
        if self.inorganic == "refuse" and all(a.GetAtomicNum() != 6 for a in molecule.GetAtoms()):
            raise BadText(
                f"{_shown(text)} has no carbon atom",
                "drop the row, or set policy.inorganic to keep",
            )
        if self.tautomers == "canonical":
            molecule = _tools().canonical_tautomer(molecule)
        return rdkit_chem().MolToSmiles(molecule)

    def _one_component(self, molecule, text: str):
        count = len(rdkit_chem().GetMolFrags(molecule))
        if count > 1 and self.salts == "refuse":
            raise BadText(
                f"{_shown(text)} has {count} components, as salts and mixtures do",
                "drop the row, or set policy.salts to largest or keep",
            )
        return _tools().largest(molecule) if count > 1 else molecule

    def recorded(self) -> dict[str, str]:
        """The policy as metadata of prepared data."""
        return {f"{RECORDED}{key}": value for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def of(cls, source: Mapping) -> "MoleculePolicy":
        """The policy that metadata of prepared data records; what is not there is the default."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{n: source[RECORDED + n] for n in names if RECORDED + n in source})


@dataclasses.dataclass(frozen=True)
class _Tools:
    """rdkit's standardisers, built once."""

    chooser: object
    enumerator: object

    def largest(self, molecule):
        return self.chooser.choose(molecule)

    def canonical_tautomer(self, molecule):
        return self.enumerator.Canonicalize(molecule)


@functools.cache
def _tools() -> _Tools:
    rdkit_chem()
    from rdkit.Chem.MolStandardize import rdMolStandardize

    chooser = rdMolStandardize.LargestFragmentChooser(preferOrganic=True)
    return _Tools(chooser, rdMolStandardize.TautomerEnumerator())


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
