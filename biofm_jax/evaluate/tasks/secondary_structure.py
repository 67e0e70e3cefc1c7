"""Protein task with a label for every residue: three-state secondary structure.

flip_ss3: 11,156 chains of the PDB with helix (H), strand (E) or coil (C) at each resolved residue;
the training chains of NetSurfP-2.0 (Klausen et al. 2019), tested on NEW364 (Elnaggar et al. 2021),
as packed by FLIP (github.com/J-SNACKKB/FLIP, AFL-3.0; raw data CC BY 4.0). The metric is Q3, the
share of right residues over all 75,402 test residues. Residues without coordinates have no label.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from biofm_jax.adapt.labelled import Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.splits import Fold
from biofm_jax.evaluate.task import Dataset, Published, Task, data_file

STATES = {"H": "helix", "E": "strand", "C": "coil"}
PARTS = {
    "SET=train VALIDATION=False": "train",
    "SET=train VALIDATION=True": "valid",
    "SET=test VALIDATION=False": "test",
}
BANDS = ((150, "below 150"), (300, "150 to 299"), (10**9, "300 and more"))  # residues
SPOT_1D_SINGLE = "PMC9085874, table of single-sequence methods, on TEST2018"


def load_secondary_structure(root: Path | None) -> Dataset:
    """FLIP's chains in its one split; a row of labels is as long as the longest chain.

    Raises:
        UserError: the file is missing, or its sequences, states and masks do not fit together.
    """
    path = data_file(root, "compbio/flip_secondary_structure/splits.zip")
    with zipfile.ZipFile(path) as archive:
        sequences, states, masks = (
            dict(_records(archive.read(f"splits/{name}.fasta").decode()))
            for name in ("sequences", "sampled", "mask")
        )
    parts = {head.split()[0]: PARTS.get(head.partition(" ")[2]) for head in states}
    states = {head.split()[0]: line for head, line in states.items()}
    number = np.full(128, np.nan)
    number[[ord(letter) for letter in STATES]] = np.arange(len(STATES))
    targets = np.full((len(states), max(map(len, states.values()))), np.nan)
    for row, (chain, line) in enumerate(states.items()):
        mask = masks.get(chain, "")
        if not len(line) == len(sequences.get(chain, "")) == len(mask) or parts[chain] is None:
            raise UserError(f"{path}: sequence, states and mask of {chain} do not fit together")
        found, resolved = (np.frombuffer(each.encode(), np.uint8) for each in (line, mask))
        targets[row, : len(line)] = np.where(resolved == ord("1"), number[found], np.nan)
    texts = tuple(sequences[chain] for chain in states)
    return Dataset(
        Labelled(tuple(states), texts, targets),
        (Fold.from_labels([parts[chain] for chain in states]),),
        tuple(f"place {place}" for place in range(1, targets.shape[1] + 1)),
        groups={"length": [next(b for most, b in BANDS if len(text) < most) for text in texts]},
        classes=tuple(STATES.values()),
    )


def _records(text: str) -> Iterator[tuple[str, str]]:
    """Header and joined lines of each record of a FASTA text."""
    for record in text.split(">")[1:]:
        head, *lines = record.splitlines()
        yield head.strip(), "".join(lines)


TASKS = (
    Task(
        name="flip_ss3",
        modality="protein",
        data=load_secondary_structure,
        split="FLIP official: NetSurfP-2.0 chains train, NEW364 tests",
        metric="residue_accuracy",
        unit="",
        baselines=("window_logistic", "residue_majority"),
        published=tuple(
            Published(name, value, SPOT_1D_SINGLE, False, "other test chains")
            for name, value in (
                ("SPIDER3-Single", 0.726),
                ("SPOT-1D-Single", 0.743),
                ("NetSurfP-2.0 with profiles", 0.854),
            )
        ),
    ),
)
