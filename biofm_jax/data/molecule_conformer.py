"""Molecules with coordinates of their atoms, embedded by rdkit from a SMILES, and the data spec.

Coordinates are made by rdkit's ETKDG (version 3; Wang et al. 2020, doi 10.1021/acs.jcim.0c00025)
with hydrogens, from a fixed seed, without a force field. Components of a salt are embedded each by
itself and lie over one another. Tokens are those of Uni-Mol (Zhou et al. 2023, ChemRxiv
10.26434/chemrxiv-2022-jjm0j-v4): 26 elements, [UNK] for any other.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.batch import Batch
from biofm_jax.data.conformers import (
    ConformerExample,
    ConformerRows,
    ConformerStore,
    open_conformers,
)
from biofm_jax.data.molecule import MoleculeData, canonical_smiles, rdkit_chem
from biofm_jax.data.progress import track
from biofm_jax.data.sources import cache_folder
from biofm_jax.data.tokenizers import Vocabulary, digest, join_tokens
from biofm_jax.errors import UserError

# The published dictionary, in its order; [MASK] is added behind it.
ELEMENTS = "C N O S H Cl F Br I Si P B Na K Al Ca Sn As Hg Fe Zn Cr Se Gd Au Li"
SPECIALS = {"pad": "[PAD]", "cls": "[CLS]", "eos": "[SEP]", "unk": "[UNK]", "mask": "[MASK]"}
TRIES = 20  # of one embedding; the published pipeline gives up too


@dataclasses.dataclass(frozen=True)
class ConformerTokenizer:
    """One token per atom: its element; cls before and sep behind. No hydrogens unless asked for.

    Attributes:
        read: SMILES to molecule in space.
    """

    read: Callable[[str], ConformerExample]

    @property
    def vocabulary(self) -> Vocabulary:
        """The published dictionary."""
        return _vocabulary()

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one SMILES.

        Raises:
            BadText: rdkit rejects it, or finds no coordinates.
        """
        return self.read(text).ids.astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, uint8; (n + 1,) int64 offsets."""
        ids = [self.read(text).ids for text in texts]
        return np.concatenate([np.zeros(0, np.uint8), *ids]), np.cumsum([0, *map(len, ids)])

    def decode(self, ids: np.ndarray) -> str:
        """The symbols of ids; a molecule cannot be told from its atoms alone."""
        return join_tokens(ids, self.vocabulary)

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["conformer atoms", self.vocabulary.fingerprint()])


@dataclasses.dataclass(frozen=True)
class ConformerData(MoleculeData):
    """Molecules in space; a token is an atom, and a batch has the field `coordinates`."""

    max_tokens: int = 128
    """Atoms of a row (t), two more for each molecule. It cannot be cut: the largest must fit."""
    hydrogens: bool = False
    """Keep hydrogens among the atoms; coordinates are found with them in any case."""
    flat: bool = False
    """Give a molecule for which rdkit finds no coordinates those of its flat drawing, as Uni-Mol
    does; without it, it is a bad record."""
    seed: int = 42
    """Of rdkit's embedding."""

    def __post_init__(self):
        super().__post_init__()
        if self.views or self.tokenizer_path:
            raise UserError(
                f"data.views is {self.views} and data.tokenizer_path {self.tokenizer_path!r}: "
                "molecules in space have neither"
            )
        if self.seed < 0:
            raise UserError(f"data.seed is {self.seed}; rdkit embeds at random below 0")

    def own_tokenizer(self) -> ConformerTokenizer:
        """Elements."""
        return ConformerTokenizer(self._read)

    def clean(self, text: str) -> str:
        """See `canonical_smiles`; a molecule without coordinates is a bad record."""
        canonical = canonical_smiles(text)
        self._read(canonical)
        return canonical

    def to_example(self) -> Callable[[str], ConformerExample]:
        """See `conformer`."""
        return self._read

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many rows, its coordinates among them."""
        coordinates = jax.ShapeDtypeStruct((rows, self.max_tokens, 3), "float32")
        return super().shapes(rows, paired).replace(coordinates=coordinates)

    def row_builder(self, store: ConformerStore, batch_size: int, seed: int) -> ConformerRows:
        """What builds batches with coordinates."""
        segments = self.segments if self.pack else 1
        return ConformerRows(store, self.max_tokens, segments, batch_size, seed)

    @property
    def longest(self) -> int:
        """Atoms of the longest row: every pair of a row is kept, 512 is as much as was trained."""
        return 512

    def cache(self, path: Path) -> Path:
        """Beside that of SMILES, which keeps molecules that have no coordinates here."""
        return cache_folder(self.kind, path, self.column, f"conformers-{self._fingerprint()}")

    def open(self) -> ConformerStore:
        """Atoms and coordinates of all records, as memory maps that are made on first use.

        Their `store.json` says how many molecules are flat, of several components, and with an
        element that the dictionary lacks.

        Raises:
            UserError: as `prepared`; a molecule with more atoms than a row; in a folder that was
                prepared for SMILES, a molecule without coordinates.
        """
        prepared = self.prepared()
        found: Counter = Counter(several_components=0, unknown_elements=0, flat=0)

        def example(text: str) -> tuple[str, ConformerExample]:
            try:
                made = self._read(text)
            except BadText as bad:
                raise UserError(
                    f"{prepared.folder}: {text[:60]!r}: {bad.reason}; {bad.fix}"
                ) from None
            found["several_components"] += "." in text
            found["unknown_elements"] += int(_vocabulary().unk in made.ids)
            found["flat"] += int(len(made) > 6 and np.ptp(made.coordinates[:, 2]) == 0.0)
            return text, made

        def chunks() -> Iterator[list[tuple[str, ConformerExample]]]:
            for texts in track(prepared.texts(), prepared.count, "conformers"):
                yield [example(text) for text in texts]

        store = open_conformers(
            prepared.folder,
            self._fingerprint(),
            _vocabulary(),
            chunks,
            prepared.names,
            lambda: found,
        )
        lengths = store.lengths()
        if (lengths > self.max_tokens).any():
            largest = int(lengths.argmax())
            raise UserError(
                f"{self.path}: {(lengths > self.max_tokens).sum()} of {len(store)} molecules have "
                f"more than {self.max_tokens - 2} atoms, the largest, "
                f"{store.names([largest])[0]}, {lengths[largest] - 2}; a molecule cannot be cut: "
                f"give --data.max-tokens {1 << int(lengths[largest] - 1).bit_length()}, or leave "
                "them out"
            )
        return store

    def _read(self, text: str) -> ConformerExample:
        return conformer(text, self.hydrogens, self.flat, self.seed)

    def _fingerprint(self) -> str:
        made = (self.hydrogens, self.flat, self.seed, TRIES)
        return digest([_vocabulary().fingerprint(), "ETKDGv3", *map(str, made)])


# A run checks all records before it keeps the coordinates: each is embedded once.
@functools.lru_cache(maxsize=1 << 16)
def conformer(
    text: str, hydrogens: bool = False, flat: bool = False, seed: int = 42
) -> ConformerExample:
    """A SMILES in space; atoms in its order, hydrogens behind them.

    The same call gives the same coordinates with one version of rdkit.

    Args:
        text: a SMILES.
        hydrogens: keep them.
        flat: where there is no embedding, take the coordinates of the flat drawing.
        seed: of the embedding, at least 0.

    Raises:
        BadText: rdkit rejects the SMILES, or finds no coordinates and `flat` is false.
        UserError: rdkit is not installed.
    """
    chem = rdkit_chem()
    from rdkit.Chem import rdDepictor, rdDistGeom

    molecule = chem.MolFromSmiles(text)
    if molecule is None or not molecule.GetNumAtoms():
        raise BadText(f"rdkit rejects the SMILES {text[:60]!r}", "correct it or drop the row")
    molecule = chem.AddHs(molecule)
    options = rdDistGeom.ETKDGv3()
    options.randomSeed, options.maxIterations = seed, TRIES
    if not _embedded(rdDistGeom, molecule, options):
        options.useRandomCoords = True
        if not _embedded(rdDistGeom, molecule, options):
            if not flat:
                raise BadText(
                    f"rdkit finds no coordinates in space for {text[:60]!r} in {2 * TRIES} tries "
                    "(impossible stereo or rings, or too large)",
                    "drop the row, or set --data.flat True for those of its drawing",
                )
            rdDepictor.Compute2DCoords(molecule)
    kept = [a.GetIdx() for a in molecule.GetAtoms() if hydrogens or a.GetAtomicNum() != 1]
    kept = kept or [0]  # molecular hydrogen has nothing else
    ids = _ids()
    symbols = [molecule.GetAtomWithIdx(i).GetSymbol() for i in kept]
    tokens = [ids.get(symbol, _vocabulary().unk) for symbol in symbols]
    vocabulary = _vocabulary()
    places = molecule.GetConformer().GetPositions()[kept]
    places = places - places.mean(0)
    origin = np.zeros((1, 3))
    return ConformerExample(
        np.array([vocabulary.cls, *tokens, vocabulary.eos], np.uint8),
        np.concatenate([origin, places, origin]).astype(np.float32),
    )


def _embedded(geometry, molecule, options) -> bool:
    try:
        found = geometry.EmbedMolecule(molecule, options) == 0
    except (RuntimeError, ValueError):  # what rdkit raises for bounds that contradict each other
        return False
    return found and bool(np.isfinite(molecule.GetConformer().GetPositions()).all())


@functools.cache
def _vocabulary() -> Vocabulary:
    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    tokens = (*special, *ELEMENTS.split(), "[MASK]")
    return Vocabulary.of(tokens, SPECIALS, set(SPECIALS.values()))


@functools.cache
def _ids() -> dict[str, int]:
    return {_vocabulary().tokens[i]: i for i in _vocabulary().regular}
