"""Protein chains of known structure: sequence and contacts from PDB files."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from biofm_jax.data.readers import read_lines
from biofm_jax.data.variants_text import THREE_LETTERS
from biofm_jax.errors import UserError

CONTACT = 8.0  # Å between two CB (CA of glycine), as in CASP and by Rao et al. 2021
INDEX = "index.csv"


@dataclasses.dataclass(frozen=True)
class Chain:
    """One chain.

    Attributes:
        name: of its file.
        sequence: of the l residues that are resolved.
        atoms: (l, 3) float64 Å of each CB, of glycine the CA; nan where it is not resolved.
        cluster: of similar sequences; chains of one cluster belong on one side of a split.
    """

    name: str
    sequence: str
    atoms: np.ndarray
    cluster: str = ""

    def contacts(self) -> Float[np.ndarray, "l l"]:
        """(l, l) 1 = closer than `CONTACT`, 0 = not, nan = an atom is missing."""
        return contacts_of(self.atoms)


def contacts_of(atoms: Float[np.ndarray, "l 3"]) -> Float[np.ndarray, "l l"]:
    """(l, l) 1 = closer than `CONTACT`, 0 = not, nan = one of both is not known."""
    apart = np.linalg.norm(atoms[:, None] - atoms[None], axis=-1)
    return np.where(np.isnan(apart), np.nan, (apart < CONTACT).astype(np.float64))


def read_chain(path: Path, name: str = "", cluster: str = "") -> Chain:
    """The residues of a PDB file that holds one chain, in its order.

    Args:
        path: fixed columns as of the wwPDB's format 3.3, plain or .gz; the first model and the
            first of alternative places of an atom are taken.
        name: of the chain; empty takes the file's.
        cluster: see `Chain`.

    Raises:
        UserError: a line that cannot be read, a residue that is not a standard one, several
            chains, or no residue.
    """
    residues: dict[tuple[str, str], tuple[str, dict[str, list[float]]]] = {}
    chains: set[str] = set()
    with read_lines(path) as lines:
        for number, line in lines:
            if line.startswith("ENDMDL"):
                break
            if not line.startswith("ATOM"):
                continue
            kind, place = line[17:20].strip().capitalize(), (line[21], line[22:27])
            try:
                at = [float(line[start : start + 8]) for start in (30, 38, 46)]
            except ValueError:
                raise UserError(f"{path}, line {number}: no coordinates in columns 31-54") from None
            if kind not in THREE_LETTERS:
                raise UserError(f"{path}, line {number}: {kind!r} is no amino acid")
            chains.add(line[21])
            found = residues.setdefault(place, (THREE_LETTERS[kind], {}))
            found[1].setdefault(line[12:16].strip(), at)
    if len(chains) != 1:
        raise UserError(f"{path} holds {len(chains)} chains; give a file of one")
    missing = [np.nan] * 3
    atoms = [known.get("CA" if letter == "G" else "CB", missing)
             for letter, known in residues.values()]  # fmt: skip
    sequence = "".join(letter for letter, _ in residues.values())
    return Chain(name or path.name.split(".")[0], sequence, np.array(atoms), cluster)


def read_chains(folder: Path) -> list[Chain]:
    """The chains of a folder: `index.csv` with name, sequence and cluster30, and `chains/`.

    Raises:
        UserError: no index, a file that is missing, or one that holds another sequence than the
            index says.
    """
    index = folder / INDEX
    if not index.is_file():
        raise UserError(f"{index} does not exist; name a folder of chains, such as "
                        "$BIOFM_DATA/compbio/pdb_chains")  # fmt: skip
    with open(index, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"name", "sequence", "cluster30"} <= set(rows[0]):
        raise UserError(f"{index} has no rows with name, sequence and cluster30")
    chains = []
    for row in rows:
        path = folder / "chains" / f"{row['name']}.pdb.gz"
        chain = read_chain(path, row["name"], row["cluster30"])
        if chain.sequence != row["sequence"]:
            raise UserError(f"{path} holds another sequence than {index} says")
        chains.append(chain)
    return chains


def held_apart(
    chains: list[Chain], count: int, seed: int = 0
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """A small training part and the rest, with no cluster in both.

    Clusters are drawn one by one until `count` chains are there; one that would pass it is
    tested instead. SCOP domains (names d...), all remote homologues here, are tested together.

    Args:
        chains: n of them.
        count: of the training part.
        seed: of the draw.

    Returns:
        (n,) which chains train, and which test.
    """
    names = np.array([chain.cluster for chain in chains])
    together = {chain.cluster for chain in chains if chain.name.startswith("d")}
    train = np.zeros(len(chains), bool)
    for cluster in np.random.default_rng(seed).permutation(sorted(set(names) - together)):
        members = names == cluster
        if train.sum() + members.sum() <= count:
            train |= members
    return train, ~train
