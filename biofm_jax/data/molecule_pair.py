"""Molecules as graphs beside their SMILES: the two views of a two-tower model."""

import dataclasses
from collections.abc import Iterator

from biofm_jax.data.batch import Batch, batch_shapes
from biofm_jax.data.molecule_graph import MoleculeGraphData
from biofm_jax.data.pairs import PairRows, PairStore
from biofm_jax.data.pipeline import RowBuilder
from biofm_jax.data.progress import track
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.data.token_store import open_store
from biofm_jax.data.tokenizers import Vocabulary
from biofm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class MoleculePairData(MoleculeGraphData):
    """Molecules as graphs, and in `Batch.pair` their canonical SMILES in the same slots."""

    max_tokens: int = 128
    """Atoms of a row (t). A molecule cannot be cut: the largest must fit."""
    pair_tokens: int = 256
    """Tokens of a row of SMILES. A drug has 1.6 to 1.9 of them an atom, cls and eos among them: at
    twice the atoms of a row neither view fills it much sooner than the other. A longer SMILES takes
    part as a random window."""

    counted = "atoms and tokens"

    def __post_init__(self):
        super().__post_init__()
        if self.pair_tokens < 1:
            raise UserError(f"data.pair_tokens is {self.pair_tokens}; use 1 or more")

    @property
    def pair_vocabulary(self) -> Vocabulary:
        """Of the SMILES."""
        return SmilesTokenizer().vocabulary

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many rows; both views always."""
        segments = self.segments if self.pack else 1
        return super().shapes(rows).replace(pair=batch_shapes(rows, self.pair_tokens, segments))

    def row_builder(self, store: PairStore, batch_size: int, seed: int) -> PairRows:
        """What builds batches of both views."""
        segments = self.segments if self.pack else 1
        first = super().row_builder(store.first, batch_size, seed)
        second = RowBuilder(store.second, self.pair_tokens, segments, batch_size, seed)
        return PairRows(store, first, second)

    def open(self) -> PairStore:
        """Graphs and SMILES of all records.

        Raises:
            UserError: as `MoleculeGraphData.open`.
        """
        graphs, prepared = super().open(), self.prepared()

        def chunks() -> Iterator[list[list[str]]]:
            for texts in track(prepared.texts(), prepared.count, "tokenizing"):
                yield [[text] for text in texts]

        smiles = open_store(prepared.folder, SmilesTokenizer(), chunks, prepared.names)
        return PairStore(graphs, smiles)
