"""Drug-target affinities in the layout of DeepDTA (Ozturk et al. 2018, bioinformatics bty593): a
matrix of drugs x proteins, both as JSON objects in the order of its rows and columns, and folds as
places among the measured cells, row by row."""

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from biofm_jax.errors import UserError

SEPARATOR = " "  # between a SMILES and a sequence in the text of a pair


@dataclasses.dataclass(frozen=True)
class Affinities:
    """Measured pairs of drugs and proteins.

    Attributes:
        drugs: m names.
        smiles: m SMILES, as the file has them.
        targets: n names.
        sequences: n protein sequences.
        drug: (p,) number of each pair's drug; pairs come row by row of the matrix.
        target: (p,) number of its protein.
        values: (p,) float64 as the matrix has them.
        train: the published training folds, numbers of pairs.
        test: the published test fold.
    """

    drugs: tuple[str, ...]
    smiles: tuple[str, ...]
    targets: tuple[str, ...]
    sequences: tuple[str, ...]
    drug: Int[np.ndarray, " p"]
    target: Int[np.ndarray, " p"]
    values: Float[np.ndarray, " p"]
    train: tuple[Int[np.ndarray, " k"], ...]
    test: Int[np.ndarray, " k"]

    def ids(self) -> tuple[str, ...]:
        """`DRUG TARGET` of each pair."""
        pairs = zip(self.drug.tolist(), self.target.tolist(), strict=True)
        return tuple(f"{self.drugs[i]} {self.targets[j]}" for i, j in pairs)

    def texts(self) -> tuple[str, ...]:
        """`SMILES SEQUENCE` of each pair; `split_pair` takes them apart."""
        pairs = zip(self.drug.tolist(), self.target.tolist(), strict=True)
        return tuple(f"{self.smiles[i]}{SEPARATOR}{self.sequences[j]}" for i, j in pairs)


def split_pair(text: str) -> tuple[str, str]:
    """SMILES and sequence of a pair's text.

    Raises:
        UserError: the text is not a SMILES, a blank and a sequence.
    """
    smiles, blank, sequence = text.partition(SEPARATOR)
    if not (smiles and blank and sequence):
        raise UserError(f"{text[:60]!r} is no pair: a SMILES, a blank and a protein are wanted")
    return smiles, sequence


def read_affinities(
    matrix: Path, ligands: Path, proteins: Path, train: Path, test: Path
) -> Affinities:
    """Read the five gzipped files of a set.

    Args:
        matrix: values between blanks or tabs, a line for each drug; `nan` is not measured.
        ligands: JSON object, name -> SMILES.
        proteins: JSON object, name -> sequence.
        train: JSON list of lists of places.
        test: JSON list of places.

    Raises:
        UserError: names the file, line and what is wrong: another number of rows or columns, a
            value that is no number, a place outside, or one in two folds.
    """
    drugs, targets = _names(ligands, "SMILES"), _names(proteins, "sequence")
    values = _matrix(matrix, len(drugs), len(targets))
    drug, target = np.nonzero(~np.isnan(values))
    folds = _json(train)
    if not isinstance(folds, list) or not all(isinstance(fold, list) for fold in folds):
        raise UserError(f"{train}: a list of lists of places is wanted")
    parts = [_places(fold, train, len(drug)) for fold in folds]
    tested = _places(_json(test), test, len(drug))
    joined = np.concatenate([*parts, tested])
    if len(np.unique(joined)) < len(joined):
        raise UserError(f"{train} and {test}: a pair stands in two folds")
    return Affinities(
        tuple(drugs),
        tuple(drugs.values()),
        tuple(targets),
        tuple(targets.values()),
        drug,
        target,
        values[drug, target],
        tuple(parts),
        tested,
    )


def _json(path: Path):
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: no gzipped JSON ({error}); fetch it again") from None


def _names(path: Path, what: str) -> dict[str, str]:
    found = _json(path)
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: an object of names and {what}s is wanted")
    for name, text in found.items():
        if not isinstance(text, str) or not text or len(text.split()) != 1:
            raise UserError(f"{path}: {name}: {text!r} is no {what}")
    return found


def _matrix(path: Path, rows: int, columns: int) -> np.ndarray:
    values = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            cells = line.split()
            if len(cells) != columns:
                raise UserError(
                    f"{path}, line {number}: {len(cells)} values for {columns} proteins; matrix "
                    "and proteins belong to different sets, or the file is cut"
                )
            try:
                values.append([float(cell) for cell in cells])
            except ValueError as error:
                raise UserError(f"{path}, line {number}: {error}") from None
    if len(values) != rows:
        raise UserError(f"{path}: {len(values)} lines for {rows} drugs")
    return np.array(values, np.float64)


def _places(fold, path: Path, pairs: int) -> np.ndarray:
    if not isinstance(fold, list) or not all(type(place) is int for place in fold):
        raise UserError(f"{path}: places are whole numbers in a list")
    places = np.array(fold, np.int64)
    if len(places) == 0 or places.min() < 0 or places.max() >= pairs:
        raise UserError(f"{path}: places are wanted between 0 and {pairs - 1}, the measured pairs")
    return places
