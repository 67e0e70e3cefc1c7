"""Functional groups of molecules, and batches with them."""

import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data.molecule_graph import MoleculeGraphData
from biofm_jax.data.molecule_motifs import MoleculeMotifData, motif_names, motifs
from biofm_jax.errors import UserError
from biofm_jax.models.grover import ContextMotifHead, GroverSpec
from biofm_jax.objectives.grover import ContextMotif

TEXTS = ["CC(=O)Nc1ccccc1", "CCO", "C", "c1ccncc1", "CC(=O)O"]


def test_motifs_are_functional_groups():
    names = motif_names()
    found = {names[i] for i in np.flatnonzero(motifs(TEXTS[0]))}
    assert {"fr_amide", "fr_benzene"} <= found and "fr_pyridine" not in found
    assert motifs("C").sum() == 0 and len(names) == 85


def test_a_batch_has_the_motifs_of_its_molecules(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "molecules.smi"
    file.write_text("".join(f"{text} m{i}\n" for i, text in enumerate(TEXTS)))
    data = MoleculeMotifData(path=str(file), max_tokens=16, segments=3, holdout=0.0)
    for _ in range(2):  # made, then read
        store = data.open()
        batch = next(data.batches(store, batch_size=2, seed=0, epochs=1))
    shapes = data.shapes(2)
    assert batch.targets.shape == shapes.targets.shape == (2, 3, 85)
    seen = 0
    for row, slot in np.argwhere(batch.examples >= 0):
        name = store.names([int(batch.examples[row, slot])])[0]
        expected = motifs(TEXTS[int(name.removeprefix("m"))])
        np.testing.assert_array_equal(batch.targets[row, slot], expected)
        seen += 1
    assert seen >= 3


def test_what_does_not_go_together_is_named():
    spec = GroverSpec(head=ContextMotifHead(motifs=7))
    with pytest.raises(UserError, match=r"--model\.head\.motifs 85"):
        ContextMotif().check(spec, MoleculeMotifData())
    with pytest.raises(UserError, match="MoleculeMotifData"):
        ContextMotif().check(spec, MoleculeGraphData())
