import csv

import numpy as np
import pytest

from biofm_jax.data.structures import Chain, contacts_of, held_apart, read_chain, read_chains
from biofm_jax.errors import UserError


def atom(number, name, kind, residue, x, chain="A", icode=" ", model=" "):
    return (
        f"ATOM  {number:5d}  {name:<3} {kind} {chain}{residue:4d}{icode}   "
        f"{x:8.3f}{0.0:8.3f}{0.0:8.3f}  1.00 20.00           C"
    )


LINES = [
    atom(1, "CA", "ALA", 5, 1.0),
    atom(2, "CB", "ALA", 5, 2.0),
    atom(3, "CA", "GLY", 6, 7.5),
    atom(4, "CA", "TRP", 6, 20.0, icode="A"),  # no CB: not resolved
    atom(5, "CB", "LYS", 9, 10.5),
    "ENDMDL",
    atom(1, "CB", "ALA", 5, 99.0),
]


def test_a_chain_is_read_with_its_contacts(tmp_path):
    path = tmp_path / "toy.pdb"
    path.write_text("\n".join(LINES) + "\n")
    chain = read_chain(path)
    assert (chain.name, chain.sequence) == ("toy", "AGWK")
    np.testing.assert_array_equal(chain.atoms[:, 0], [2.0, 7.5, np.nan, 10.5])
    nan = np.nan
    want = [[1, 1, nan, 0], [1, 1, nan, 1], [nan] * 4, [0, 1, nan, 1]]
    np.testing.assert_array_equal(chain.contacts(), want)


def test_the_distance_itself_is_no_contact():
    atoms = np.array([[0.0, 0, 0], [8.0, 0, 0], [7.999, 0, 0]])
    assert contacts_of(atoms)[0].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([LINES[0], atom(2, "CB", "ALA", 6, 1.0, chain="B")], "holds 2 chains"),
        (["REMARK"], "holds 0 chains"),
        ([atom(1, "CA", "MSE", 5, 1.0)], "line 1: 'Mse' is no amino acid"),
        ([LINES[0], LINES[1][:40]], "line 2: no coordinates"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, lines, words):
    path = tmp_path / "toy.pdb"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=words):
        read_chain(path)


def test_no_cluster_is_on_both_sides():
    names = [("d1", "1"), ("x", "1"), *((f"c{i}", str(2 + i // 2)) for i in range(20))]
    chains = [Chain(name, "A", np.zeros((1, 3)), cluster) for name, cluster in names]
    train, test = held_apart(chains, 9, seed=3)
    assert train.sum() == 8 and (train ^ test).all() and test[:2].all()
    clusters = np.array([chain.cluster for chain in chains])
    assert not set(clusters[train]) & set(clusters[test])
    assert (held_apart(chains, 9, seed=4)[0] != train).any()


def test_the_contacts_of_real_chains_are_those_counted_elsewhere(biofm_data):
    folder = biofm_data / "compbio/pdb_chains"
    chains = read_chains(folder)
    with open(folder / "index.csv") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert len(chains) == 70
    for chain in chains:
        pairs = {k: np.triu_indices(len(chain.sequence), k) for k in (6, 24)}
        for k, where in pairs.items():
            count = np.nansum(chain.contacts()[where])
            assert count == int(rows[chain.name][f"contacts_sep{k}"])
    with pytest.raises(UserError, match=r"index\.csv does not exist"):
        read_chains(folder / "chains")
