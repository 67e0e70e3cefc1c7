"""Molecules as graphs with their functional groups, the 85 of `rdkit.Chem.Fragments`, which GROVER
predicts (Rong et al. 2020, arXiv:2007.02835, section 4.2)."""

import dataclasses
import functools
import io
from collections.abc import Callable

import jax
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.graphs import GraphRows, GraphStore
from biofm_jax.data.molecule import rdkit_chem
from biofm_jax.data.molecule_graph import MoleculeGraphData
from biofm_jax.data.progress import track
from biofm_jax.data.tokenizers import digest
from biofm_jax.files import write_whole

MOTIFS = 85


@dataclasses.dataclass(frozen=True)
class MotifStore(GraphStore):
    """Graphs and the motifs of each.

    Attributes:
        motifs: (records, 85) bool.
    """

    motifs: np.ndarray


@dataclasses.dataclass(frozen=True)
class MoleculeMotifData(MoleculeGraphData):
    """Molecules as graphs; `targets` of a batch (b, s, 85) are its molecules' motifs."""

    def shapes(self, rows: int, paired: bool = False) -> Batch:
        """The shapes of a batch of so many rows, its graph and motifs among them."""
        batch = super().shapes(rows, paired)
        motifs = jax.ShapeDtypeStruct((*batch.examples.shape, MOTIFS), "float32")
        return batch.replace(targets=motifs, weights=motifs)

    def row_builder(self, store: MotifStore, batch_size: int, seed: int) -> GraphRows:
        """What builds batches with graphs and motifs."""
        segments = self.segments if self.pack else 1
        labels = store.motifs.astype(np.float32)
        return GraphRows(store, self.max_tokens, segments, batch_size, seed, labels)

    def open(self) -> MotifStore:
        """See `MoleculeGraphData.open`; motifs are found on first use (1 to 3 ms a molecule)."""
        graphs, prepared = super().open(), self.prepared()
        path = prepared.folder / f"motifs-{digest(list(motif_names()))}.npy"
        if not path.is_file():
            chunks = track(prepared.texts(), prepared.count, "motifs of molecules")
            found = [motifs(text) for texts in chunks for text in texts]
            buffer = io.BytesIO()
            np.save(buffer, np.stack(found))
            write_whole(path, buffer.getvalue())
        fields = {field.name: getattr(graphs, field.name) for field in dataclasses.fields(graphs)}
        return MotifStore(**fields, motifs=np.load(path))


def motifs(text: str) -> np.ndarray:
    """(85,) bool which motifs a molecule has.

    Args:
        text: a SMILES that rdkit accepts.
    """
    molecule = rdkit_chem().MolFromSmiles(text)
    return np.array([count(molecule) > 0 for count in _counters().values()])


def motif_names() -> tuple[str, ...]:
    """The 85 names, such as fr_amide, in the order of the columns."""
    return tuple(_counters())


@functools.cache
def _counters() -> dict[str, Callable]:
    rdkit_chem()
    from rdkit.Chem import Fragments

    found = {name: getattr(Fragments, name) for name in sorted(dir(Fragments))
             if name.startswith("fr_")}  # fmt: skip
    if len(found) != MOTIFS:
        raise RuntimeError(f"this rdkit counts {len(found)} functional groups, not {MOTIFS}")
    return found
