"""Molecules as graphs: atoms, bonds and their features from a SMILES by rdkit, and the data spec.

What a graph keeps and what it does not: every component of a salt or mixture is a part of one
graph without bonds between them; charge, E/Z and R/S are features; isotopes and hydrogens that
the SMILES leaves implicit are none (hydrogens are counted). A dummy atom (`*`, of a polymer or a
fragment) is an atom type of its own.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.batch import Batch
from biofm_jax.data.graphs import (
    EDGES_PER_ATOM,
    GraphExample,
    GraphRows,
    GraphStore,
    graph_shapes,
    open_graphs,
)
from biofm_jax.data.molecule import MoleculeData, rdkit_chem
from biofm_jax.data.progress import track
from biofm_jax.data.sources import Prepared, cache_folder
from biofm_jax.data.tokenizers import Vocabulary, digest, join_tokens
from biofm_jax.errors import UserError

# By atomic number from 1; 0 is the dummy atom.
ELEMENTS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm
Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No
Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
FIRST = 2  # id of the dummy atom, behind <pad> and <mask>

# Classes of each feature, in the order of the columns: a model may read the first few.
CHIRALITY, CHARGE, AROMATIC, HYDROGENS, DEGREE = ATOM_FEATURES = (4, 7, 2, 6, 8)
BOND_FEATURES = (5, 4, 2)  # type, stereo, ring; counted from 1 in a batch

ROW = 1 << 16  # atoms that the sender and receiver of an edge can name


@dataclasses.dataclass(frozen=True)
class AtomTokenizer:
    """One token per atom: its element. No cls, no eos; the order is that of the SMILES."""

    @property
    def vocabulary(self) -> Vocabulary:
        """<pad>, <mask>, the dummy atom, the 118 elements."""
        return _vocabulary()

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one SMILES.

        Raises:
            BadText: rdkit rejects it, or it is no graph that fits.
        """
        return molecule_graph(text).ids.astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, uint8; (n + 1,) int64 offsets."""
        ids = [molecule_graph(text).ids for text in texts]
        return np.concatenate([np.zeros(0, np.uint8), *ids]), np.cumsum([0, *map(len, ids)])

    def decode(self, ids: np.ndarray) -> str:
        """The symbols of ids; a molecule cannot be told from its atoms alone."""
        return join_tokens(ids, self.vocabulary)

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["atoms", self.vocabulary.fingerprint()])


@dataclasses.dataclass(frozen=True)
class MoleculeGraphData(MoleculeData):
    """Molecules as graphs; a token is an atom, and a batch has the field `graph`."""

    max_tokens: int = 256
    """Atoms of a row (t). A molecule cannot be cut: the largest must fit."""

    unit = "atoms"

    def __post_init__(self):
        super().__post_init__()
        if self.views or self.tokenizer_path:
            raise UserError(
                f"data.views is {self.views} and data.tokenizer_path {self.tokenizer_path!r}: "
                "graphs have neither; views of a graph are drawn on the device (objective MolCLR)"
            )

    def own_tokenizer(self) -> AtomTokenizer:
        """Elements."""
        return AtomTokenizer()

    def clean(self, text: str) -> str:
        """As of `MoleculeData`; a molecule with too many bonds for a row is a bad record."""
        canonical = super().clean(text)
        molecule_graph(canonical)
        return canonical

    def to_example(self) -> Callable[[str], GraphExample]:
        """See `molecule_graph`."""
        return molecule_graph

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many rows, its graph among them."""
        features, bonds = len(ATOM_FEATURES), len(BOND_FEATURES)
        graph = graph_shapes(rows, self.max_tokens, features, bonds)
        return super().shapes(rows, paired).replace(graph=graph)

    def row_builder(self, store: GraphStore, batch_size: int, seed: int) -> GraphRows:
        """What builds batches with graphs."""
        segments = self.segments if self.pack else 1
        return GraphRows(store, self.max_tokens, segments, batch_size, seed)

    @property
    def longest(self) -> int:
        """Atoms of the longest row: a graph model has no positions to run out of."""
        return ROW

    def cache(self, path: Path) -> Path:
        """Beside that of SMILES, which keeps molecules that are no graphs here."""
        return cache_folder(self.kind, path, self.column, "graph", *self.recorded().values())

    def open(self) -> GraphStore:
        """Atoms and bonds of all records, as memory maps that are made on first use.

        Their `store.json` says how many molecules have several components, and dummy atoms.

        Raises:
            UserError: as `prepared`; a molecule with more atoms than a row; in a folder that was
                prepared for SMILES, a molecule with too many bonds.
        """
        prepared = self.prepared()
        found: Counter = Counter(components="kept", several_components=0, dummy_atoms=0)

        def chunks() -> Iterator[list[tuple[str, GraphExample]]]:
            for texts in track(prepared.texts(), prepared.count, "graphs of molecules"):
                found["several_components"] += sum("." in text for text in texts)
                found["dummy_atoms"] += sum("*" in text for text in texts)
                yield [(text, self._graph(text, prepared)) for text in texts]

        store = open_graphs(
            prepared.folder, fingerprint(), _vocabulary(), chunks, prepared.names, lambda: found
        )
        lengths = store.lengths()
        if (lengths > self.max_tokens).any():
            largest = int(lengths.argmax())
            raise UserError(
                f"{self.path}: {(lengths > self.max_tokens).sum()} of {len(store)} molecules have "
                f"more than {self.max_tokens} atoms, the largest, {store.names([largest])[0]}, "
                f"{lengths[largest]}; a graph cannot be cut: give --data.max-tokens "
                f"{1 << int(lengths[largest] - 1).bit_length()}, or leave them out"
            )
        return store

    def _graph(self, text: str, prepared: Prepared) -> GraphExample:
        try:
            return molecule_graph(text)
        except BadText as bad:
            raise UserError(f"{prepared.folder}: {text[:60]!r}: {bad.reason}; {bad.fix}") from None


def molecule_graph(text: str) -> GraphExample:
    """The graph of a SMILES; atoms in its order, each bond as two edges.

    Features of an atom: R/S (none, R, S, other), formal charge (-3 to 3, clipped), aromatic,
    hydrogens (0 to 5), degree (0 to 7). Of a bond, from 1: type (single, double, triple,
    aromatic, other), stereo (none, Z, E, other), in a ring. Labels, not rdkit's tags and bond
    directions as in MolCLR: these depend on the order in which the SMILES names the atoms.

    Raises:
        BadText: rdkit rejects the SMILES, or it has more bonds than a row has room for.
        UserError: rdkit is not installed.
    """
    chem = rdkit_chem()
    molecule = chem.MolFromSmiles(text)
    if molecule is None or not molecule.GetNumAtoms():
        raise BadText(f"rdkit rejects the SMILES {text[:60]!r}", "correct it or drop the row")
    atoms, edges = molecule.GetNumAtoms(), 2 * molecule.GetNumBonds()
    if edges > EDGES_PER_ATOM * atoms or atoms > ROW:
        raise BadText(
            f"{edges // 2} bonds of {atoms} atoms: a graph holds at most {EDGES_PER_ATOM / 2:g} "
            f"bonds an atom and {ROW:,} atoms",
            "drop the row (clusters such as carboranes have no bonds of two electrons)",
        )
    types, features = [], []
    for atom in molecule.GetAtoms():
        types.append(FIRST + atom.GetAtomicNum())
        features.append(
            (
                _class(_chirality(atom), CHIRALITY),
                _class(atom.GetFormalCharge() + 3, CHARGE),
                int(atom.GetIsAromatic()),
                _class(atom.GetTotalNumHs(), HYDROGENS),
                _class(atom.GetDegree(), DEGREE),
            )
        )
    ends, bonds = [], []
    for bond in molecule.GetBonds():
        one, other = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        ends += [(one, other), (other, one)]
        kind = BOND_TYPES.get(str(bond.GetBondType()), 5)
        features_of = (kind, STEREO.get(str(bond.GetStereo()), 4), 1 + int(bond.IsInRing()))
        bonds += [features_of, features_of]
    return GraphExample(
        np.array(types, np.uint8),
        np.array(features, np.uint8),
        np.array(ends, np.uint16).reshape(-1, 2),
        np.array(bonds, np.uint8).reshape(-1, len(BOND_FEATURES)),
    )


BOND_TYPES = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "AROMATIC": 4}
STEREO = {"STEREONONE": 1, "STEREOZ": 2, "STEREOCIS": 2, "STEREOE": 3, "STEREOTRANS": 3}


def _chirality(atom) -> int:
    """0 none, 1 R, 2 S, 3 a centre of another kind."""
    if atom.HasProp("_CIPCode"):
        return {"R": 1, "S": 2}.get(atom.GetProp("_CIPCode"), 3)
    return 0 if str(atom.GetChiralTag()) == "CHI_UNSPECIFIED" else 3


def _class(value: int, classes: int) -> int:
    """A number as a class, those beyond the ends in the first or last."""
    return min(max(value, 0), classes - 1)


@functools.cache
def _vocabulary() -> Vocabulary:
    tokens = ("<pad>", "<mask>", "*", *ELEMENTS.split())
    return Vocabulary.of(tokens, {"pad": "<pad>", "mask": "<mask>", "unk": "*"})


def fingerprint() -> str:
    """Hex digits that change when the same SMILES would become another graph."""
    return digest([_vocabulary().fingerprint(), ATOM_FEATURES, BOND_FEATURES, BOND_TYPES, STEREO])
