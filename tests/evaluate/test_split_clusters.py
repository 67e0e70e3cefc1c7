import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data.molecule import quickstart_molecules
from biofm_jax.errors import UserError
from biofm_jax.evaluate.molecules import ecfp4
from biofm_jax.evaluate.split_clusters import butina_clusters, cluster_split


@pytest.fixture(scope="module")
def smiles():
    return quickstart_molecules().smiles[:260]


@pytest.mark.parametrize("cutoff", [0.0, 0.6, 0.8])
def test_clusters_are_those_of_rdkit(smiles, cutoff):
    from rdkit.ML.Cluster import Butina

    bits = ecfp4(smiles).astype(bool)
    distances = [
        1 - (bits[i] & bits[j]).sum() / (bits[i] | bits[j]).sum()
        for i in range(len(smiles))
        for j in range(i)
    ]
    # Its comparison is of exact float64 quotients; a hair more takes in what lies on the cutoff.
    wanted = Butina.ClusterData(distances, len(smiles), cutoff + 1e-9, isDistData=True)
    found = butina_clusters(smiles, cutoff)
    assert [group[0] for group in found] == [group[0] for group in wanted]
    assert [set(group) for group in found] == [set(group) for group in wanted]


def test_the_split_keeps_clusters_whole_and_tests_the_small_ones(smiles):
    fold = cluster_split(smiles)
    parts = [fold.train, fold.valid, fold.test]
    assert sorted(np.concatenate(parts)) == list(range(len(smiles)))
    assert [len(part) for part in parts] == [208, 26, 26]
    part_of = {item: number for number, part in enumerate(parts) for item in part.tolist()}
    clusters = butina_clusters(smiles)
    assert all(len({part_of[item] for item in group}) == 1 for group in clusters)
    sizes = [max(len(g) for g in clusters if part_of[g[0]] == number) for number in range(3)]
    assert sizes[0] > sizes[1] >= sizes[2]
    assert (cluster_split(smiles).test == fold.test).all()


def test_a_cutoff_out_of_range_is_refused(smiles):
    with pytest.raises(UserError, match=r"cutoff is 1\.0"):
        butina_clusters(smiles[:3], 1.0)
