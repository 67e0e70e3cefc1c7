"""Retrieval of graphs by SMILES among held-out molecules."""

import numpy as np
import pytest

pytest.importorskip("rdkit")

from toy_batches import compiled_once

from biofm_jax.cli import main
from biofm_jax.errors import UserError
from biofm_jax.experiment import load_encoder
from biofm_jax.retrieval import Retrieve, experiment_of, retrieve, token_counts, views

FILE = """
import dataclasses, runpy
found = runpy.run_path("experiments/drug_discovery/graph_smiles_contrastive.py")
smoke = found["variants"]["smoke"]
experiment = dataclasses.replace(
    smoke, data=dataclasses.replace(smoke.data, path={path!r}, holdout=0.5, segments=4)
)
"""
MOLECULES = [
    "C" * n + tail for n in range(1, 16) for tail in ("O", "N", "Cl", "c1ccccc1", "C(=O)O", "[O-]")
]


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrieval")
    with pytest.MonkeyPatch.context() as patch, compiled_once(folder / "compiled"):
        patch.setenv("BIOFM_CACHE", str(folder / "cache"))
        (folder / "some.smi").write_text("\n".join([*MOLECULES, "OC"]) + "\n")  # CO a second time
        (folder / "pairs.py").write_text(FILE.format(path=str(folder / "some.smi")))
        yield f"random:{folder / 'pairs.py'}"


def read(name, options):
    encoder, experiment = load_encoder(name), experiment_of(name)
    objective = experiment.objective.build(experiment.data.vocabulary)
    return views(encoder, experiment, objective, options), experiment


def test_recall_is_that_of_each_query_among_all_held_out_records(name):
    options = Retrieve(name, k=(1, 10))
    rows = retrieve(options, lambda line: None)
    found, experiment = read(name, options)
    n = len(found.records)
    assert [(row["direction"], row["k"]) for row in rows] == [
        (direction, k) for direction in ("first->second", "second->first") for k in (1, 10)
    ]
    twice = 2 if "CO" in {t for t in held_texts(experiment, found)} else 1
    assert max(np.bincount(found.same)) == twice
    for row in rows:
        one, other = found.first, found.second
        if row["direction"] == "second->first":
            one, other = other, one
        hits = []
        for i in range(n):
            cosines = one[i] @ other.T
            best = np.argsort(-cosines)[: row["k"]]
            right = np.flatnonzero(found.same == found.same[i])
            hits.append(np.isin(right, best).mean())
        np.testing.assert_allclose(row["recall"], np.mean(hits), atol=1e-9)
        assert row["chance"] == row["k"] / n and row["candidates"] == n
        assert row["low"] <= row["recall"] <= row["high"] and row["untrained"] is None


def held_texts(experiment, found):
    texts = [t for chunk in experiment.data.prepared().texts() for t in chunk]
    return [texts[i] for i in found.records]


def test_token_counts_are_of_the_atoms_that_both_views_name(name):
    found, experiment = read(name, Retrieve(name))
    graphs, smiles = token_counts(found, experiment)
    texts = held_texts(experiment, found)
    plain = np.array(["[" not in text for text in texts])
    np.testing.assert_array_equal(graphs[plain], smiles[plain])
    atoms = [sum(letter in "CcONl" for letter in text) - text.count("Cl") for text in texts]
    np.testing.assert_array_equal(graphs[plain].sum(1), np.array(atoms)[plain])
    # A charged oxygen is a token of its own in a SMILES, and no atom of the other vocabulary.
    assert (graphs[~plain].sum(1) == smiles[~plain].sum(1) + 1).all()


def test_fewer_candidates_are_the_first(name):
    few, _ = read(name, Retrieve(name, candidates=7))
    all_, _ = read(name, Retrieve(name))
    np.testing.assert_array_equal(few.records, all_.records[:7])
    np.testing.assert_allclose(few.first, all_.first[:7], atol=1e-5)
    np.testing.assert_allclose(few.second, all_.second[:7], atol=1e-5)


def test_what_cannot_be_is_named(name, capsys):
    with pytest.raises(UserError, match="candidates"):
        retrieve(Retrieve(name, candidates=1), lambda line: None)
    with pytest.raises(UserError, match="MaskedLM"):
        masked = "random:experiments/drug_discovery/smiles_masked.py:smoke"
        retrieve(Retrieve(masked), lambda line: None)
    assert main(["retrieve", "nowhere"]) == 2
    assert "nowhere is no run" in capsys.readouterr().err
