"""SDF and MOL files (V2000 and V3000, 2-D and 3-D) and SELFIES, as SMILES."""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadRecords, BadText
from biofm_jax.data.chemistry import rdkit_chem
from biofm_jax.errors import UserError

SDF_ENDINGS = (".sdf", ".sd", ".mol")
SYMBOLS = re.compile(r"(\[[^\[\]]+\]|\.)+")
SELFIES_ENDING, SELFIES_COLUMN = ".selfies", "selfies"


@dataclasses.dataclass(frozen=True)
class Molfile:
    """One molecule of an SDF or MOL file.

    Attributes:
        line: at which it starts, from 1.
        title: its first line, maybe empty.
        smiles: with stereochemistry, of wedges in 2-D, of the coordinates in 3-D; hydrogens are
            implicit.
        coordinates: (atoms, 3) float32 ångström in the order of the SMILES; None in 2-D.
        fields: its data items (`> <NAME>`).
    """

    line: int
    title: str
    smiles: str
    coordinates: np.ndarray | None
    fields: dict[str, str]


def read_molfiles(path: Path, bad: BadRecords) -> Iterator[Molfile]:
    """The molecules of an SDF or MOL file, plain or gzip; bad ones go to `bad`.

    Raises:
        UserError: the file is missing, empty or cut, or rdkit is not installed.
    """
    from biofm_jax.data.readers import read_lines

    with read_lines(path) as lines:
        yield from molfiles(lines, bad)


def molfiles(lines: Iterable[tuple[int, str]], bad: BadRecords) -> Iterator[Molfile]:
    """Molecules of numbered lines; `$$$$` stands behind each, and may be missing behind the last.

    Raises:
        UserError: rdkit is not installed.
    """
    rdkit_chem()
    start, block = 1, []
    for number, line in lines:
        if line.rstrip() != "$$$$":
            block.append(line)
            continue
        yield from _one(start, block, bad)
        start, block = number + 1, []
    if any(line.strip() for line in block):
        yield from _one(start, block, bad)


def molfile(block: str) -> tuple[str, np.ndarray | None]:
    """SMILES and, of a 3-D file, coordinates as of `Molfile`, of a MOL block.

    Raises:
        BadText: no MOL block, no atoms, or atoms and bonds that are no molecule.
    """
    chem = rdkit_chem()
    molecule = chem.MolFromMolBlock(block)
    if molecule is None:
        raise BadText(_why(chem, block), "correct the molecule or drop it")
    if not molecule.GetNumAtoms():
        raise BadText("the MOL block has no atoms", "drop the molecule")
    conformer = molecule.GetConformer()
    spatial = conformer.Is3D()
    if spatial:
        chem.AssignStereochemistryFrom3D(molecule)
    smiles = chem.MolToSmiles(molecule)
    if not spatial:
        return smiles, None
    order = [int(place) for place in molecule.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]]
    return smiles, conformer.GetPositions()[order].astype(np.float32)


def selfies_package():
    """The package selfies.

    Raises:
        UserError: it is not installed.
    """
    try:
        import selfies
    except ImportError as error:
        raise UserError(
            "SELFIES need the package selfies, which is not installed: "
            "pip install 'biofm_jax[molecule]'"
        ) from error
    return selfies


def selfies_to_smiles(text: str) -> str:
    """The SMILES of SELFIES (Krenn et al. 2020, Mach Learn Sci Technol 1:045024).

    Raises:
        BadText: a symbol that is none.
        UserError: the package is not installed.
    """
    selfies = selfies_package()
    try:
        # The decoder passes over what stands outside brackets, a whole SMILES for one.
        if SYMBOLS.fullmatch(text):
            return selfies.decoder(text)
    except (selfies.DecoderError, ValueError):
        pass
    shown = text if len(text) <= 60 else text[:57] + "..."
    raise BadText(f"no SELFIES: {shown!r}", "correct it, or name the column of the SMILES")


def _one(start: int, block: list[str], bad: BadRecords) -> Iterator[Molfile]:
    if any("\ufffd" in line for line in block):
        bad.add(start, "the molecule is not UTF-8", "save the file as UTF-8")
        return
    try:
        smiles, coordinates = molfile("\n".join(block) + "\n")
    except BadText as error:
        bad.add(start, error.reason, error.fix)
        return
    title = block[0].strip() if block else ""
    yield Molfile(start, title, smiles, coordinates, _fields(block))


def _fields(block: list[str]) -> dict[str, str]:
    """Data items: a line `> <NAME>`, then lines of the value, then a blank one."""
    found: dict[str, list[str]] = {}
    name = None
    for line in block:
        if line.startswith(">") and "<" in line:
            name = line[line.index("<") + 1 : line.rindex(">")]
            found[name] = []
        elif name is not None and line.strip():
            found[name].append(line.strip())
        else:
            name = None
    return {key: "\n".join(lines) for key, lines in found.items()}


def _why(chem, block: str) -> str:
    """Why rdkit rejects a MOL block."""
    loose = chem.MolFromMolBlock(block, sanitize=False)
    if loose is None:
        return "no MOL block: its counts line, atoms or bonds cannot be read, or M  END is missing"
    problems = chem.DetectChemistryProblems(loose)
    reason = problems[0].Message() if problems else "rdkit cannot sanitise it"
    return f"the atoms and bonds are no molecule: {reason}"
