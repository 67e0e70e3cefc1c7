"""Splits made here: by scaffold and at random. Official splits come with their tasks."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.evaluate.molecules import parse


@dataclasses.dataclass(frozen=True)
class Fold:
    """Which items train, validate and test: int64 indices, in the order a learner sees them."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> "Fold":
        """The fold of n labels "train", "valid" or "test", in the items' own order."""
        labels = np.asarray(labels)
        return cls(*(np.flatnonzero(labels == part) for part in ("train", "valid", "test")))


def scaffolds(smiles: Sequence[str]) -> list[str]:
    """The Bemis-Murcko scaffold of each molecule: rings and the linkers between them.

    Stereochemistry is left out; molecules without a ring share the empty scaffold.

    Raises:
        UserError: rdkit is missing, or cannot parse a SMILES.
    """
    molecules = parse(smiles)
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    return [MurckoScaffoldSmiles(mol=molecule, includeChirality=False) for molecule in molecules]


def scaffold_split(smiles: Sequence[str], train: float = 0.8, valid: float = 0.1) -> Fold:
    """The deterministic scaffold split, in DeepChem's order.

    Molecules of one scaffold stay together. Scaffold sets, ordered by size and then by their
    first member, both descending, fill the training part until the next set would overflow it,
    then the validation part; the rest is the test part. So the test part holds rare scaffolds.
    (The order is that of deepchem.splits.ScaffoldSplitter. It is kept within the parts: a
    random forest draws its rows by their place.)

    Args:
        smiles: n SMILES strings.
        train: share of the training part.
        valid: share of the validation part.
    """
    groups = defaultdict(list)
    for index, scaffold in enumerate(scaffolds(smiles)):
        groups[scaffold].append(index)
    ordered = sorted(groups.values(), key=lambda g: (len(g), g[0]), reverse=True)
    return filled(ordered, train, valid)


def filled(groups: Sequence[Sequence[int]], train: float, valid: float) -> Fold:
    """Put groups, in their order, into the training part, the validation part and the test part.

    A group goes to the first part that it does not overflow; those that follow may still fit.
    Items keep the order of their groups.

    Args:
        groups: of items 0 to n - 1, each in one group.
        train: share of the training part.
        valid: share of the validation part.
    """
    items = sum(map(len, groups))
    parts: tuple[list[int], ...] = ([], [], [])
    for members in groups:
        if len(parts[0]) + len(members) <= train * items:
            parts[0].extend(members)
        elif len(parts[0]) + len(parts[1]) + len(members) <= (train + valid) * items:
            parts[1].extend(members)
        else:
            parts[2].extend(members)
    return Fold(*(np.array(part, np.int64) for part in parts))


def random_split(n: int, train: float = 0.8, valid: float = 0.1, seed: int = 0) -> Fold:
    """A split at random; the test part gets what rounding leaves.

    Raises:
        UserError: shares that leave a part without items.
    """
    first, second = int(train * n), int((train + valid) * n)
    if not 0 < first <= second < n or (valid > 0) != (second > first):
        raise UserError(f"{n} items cannot be split {train:g} to train and {valid:g} to validate")
    order = np.random.default_rng(seed).permutation(n)
    return Fold(*np.split(order.astype(np.int64), [first, second]))


def random_folds(n: int, folds: int, seed: int) -> tuple[Fold, ...]:
    """Cross-validation at random: fold f tests on part f and validates on part f + 1.

    Every item is tested exactly once.

    Raises:
        UserError: fewer items than folds, or fewer than three folds.
    """
    if not 3 <= folds <= n:
        raise UserError(f"{n} items cannot make {folds} folds: at least 3 folds, at most n")
    part = np.random.default_rng(seed).permutation(n) % folds
    labels = np.array(["test", "valid"] + ["train"] * (folds - 2))
    return tuple(Fold.from_labels(labels[(part - fold) % folds]) for fold in range(folds))
