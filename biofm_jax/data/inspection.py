"""What the command line shows of data: prepare a file, look into a prepared folder."""

import dataclasses
from pathlib import Path

import numpy as np

from biofm_jax.data.genome import GenomeData
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_policy import MoleculePolicy
from biofm_jax.data.notes import NotesData
from biofm_jax.data.protein import ProteinData
from biofm_jax.data.readers import Record
from biofm_jax.data.sequence import SequenceData
from biofm_jax.data.sources import Prepared, open_prepared
from biofm_jax.errors import UserError

KEEP = MoleculePolicy()
KINDS: dict[str, type[SequenceData]] = {
    "protein": ProteinData,
    "molecule": MoleculeData,
    "genome": GenomeData,
    "notes": NotesData,
}


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A look into a prepared data set.

    Attributes:
        prepared: folder, kind, number of records and of bad ones, source file and checksum.
        shortest: tokens of the shortest record, cls and eos counted, as all lengths here.
        median: of the tokens of a record.
        mean: of the tokens of a record.
        longest: tokens of the longest record.
        tokens: of all records.
        max_tokens: the row length for which `cropped` counts.
        cropped: records longer than a row, which take part as random windows.
        duplicates: records whose text stands already in the data set.
        unknown: share of tokens that are <unk>.
        vocabulary: (token, times it occurs) of all regular tokens, most frequent first.
        edges: (bins + 1,) lengths that bound the histogram's bins, evenly spaced in logarithm.
        histogram: (bins,) number of records per bin.
        examples: the first records.
    """

    prepared: Prepared
    shortest: int
    median: float
    mean: float
    longest: int
    tokens: int
    max_tokens: int
    cropped: int
    duplicates: int
    unknown: float
    vocabulary: tuple[tuple[str, int], ...]
    edges: np.ndarray
    histogram: np.ndarray
    examples: tuple[Record, ...]

    @property
    def coverage(self) -> float:
        """Share of the vocabulary's regular tokens that occur."""
        return sum(count > 0 for _, count in self.vocabulary) / len(self.vocabulary)


def prepare(
    kind: str,
    path: str,
    out: str | Path,
    *,
    tolerance: float = 0.0,
    column: str = "",
    policy: MoleculePolicy = KEEP,
) -> Prepared:
    """Check a file's records and write them to a folder that `data.path` can name.

    Args:
        kind: a key of `KINDS`.
        path: FASTA, CSV, TSV, SMILES, SELFIES, SDF, JSON-lines or text file, plain or gzip.
        out: the folder to make; must not exist.
        tolerance: share of bad records with which to go on.
        column: column of a table with the text; empty takes the first known name.
        policy: of molecules.

    Raises:
        UserError: unknown kind, unreadable file, `out` exists, too many bad records, or a policy
            for what are no molecules.
    """
    return _spec(kind, path, tolerance, column, policy).prepare(out)


def inspect(
    folder: str | Path, *, max_tokens: int = 0, bins: int = 20, examples: int = 3
) -> Inspection:
    """Count, measure and sample a prepared data set.

    Args:
        folder: what `prepare` made.
        max_tokens: row length for the count of cropped records; 0 takes the kind's default.
        bins: of the histogram of lengths.
        examples: how many records to show.

    Raises:
        UserError: the folder is no prepared data set.
    """
    prepared = open_prepared(Path(folder))
    spec = _spec(prepared.kind, str(folder), 0.0, "", MoleculePolicy.of(prepared.source))
    row = max_tokens or spec.max_tokens
    store = spec.open()
    lengths = store.lengths()
    edges = np.geomspace(lengths.min(), lengths.max() + 1, bins + 1)
    counts = np.zeros(store.vocabulary.size, np.int64)
    for start in range(0, len(store.ids), 1 << 24):
        part = store.ids[start : start + (1 << 24)]
        counts += np.bincount(part, minlength=store.vocabulary.size)
    regular = [(store.vocabulary.tokens[i], int(counts[i])) for i in store.vocabulary.regular]
    return Inspection(
        prepared=prepared,
        shortest=int(lengths.min()),
        median=float(np.median(lengths)),
        mean=float(lengths.mean()),
        longest=int(lengths.max()),
        tokens=int(lengths.sum()),
        max_tokens=row,
        cropped=int((lengths > row).sum()),
        duplicates=len(store) - len(np.unique(store.hashes)),
        unknown=float(counts[store.vocabulary.unk] / counts.sum()),
        vocabulary=tuple(sorted(regular, key=lambda item: -item[1])),
        edges=edges,
        histogram=np.histogram(lengths, edges)[0],
        examples=tuple(prepared.read(range(min(examples, prepared.count)))),
    )


def _spec(
    kind: str, path: str, tolerance: float, column: str, policy: MoleculePolicy
) -> SequenceData:
    if kind not in KINDS:
        raise UserError(f"unknown kind of data {kind!r}; choose one of {', '.join(KINDS)}")
    if kind != "molecule" and policy != KEEP:
        raise UserError(f"--policy is of molecules; leave it out for {kind}")
    more = {"policy": policy} if kind == "molecule" else {}
    return KINDS[kind](path=path, tolerance=tolerance, column=column, **more)
