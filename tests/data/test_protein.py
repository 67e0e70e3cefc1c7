import dataclasses
import gzip

import numpy as np
import pytest

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.protein import ProteinData, clean_protein
from biofm_jax.errors import UserError


@pytest.mark.parametrize(
    "text, kept",
    [
        ("mktAYI", "MKTAYI"),
        ("MK-T..A", "MKTA"),
        ("MKT*", "MKT"),
        ("MUOBZX", "MUOBZX"),
        ("MJK", "MXK"),
        ("M" * 40_000, "M" * 40_000),
    ],
)
def test_sequences_that_are_kept(text, kept):
    assert clean_protein(text) == kept


@pytest.mark.parametrize(
    "text, reason",
    [
        ("MK*T", "a stop inside the sequence, after 2 residues"),
        ("MKT**", "a stop inside the sequence, after 3 residues"),
        ("MK1", "'1' at residue 3"),
        ("MKé", "'É' at residue 3"),
        ("--*", "only gaps and stops"),
    ],
)
def test_sequences_that_are_bad(text, reason):
    with pytest.raises(BadText, match=reason.replace("*", r"\*")) as error:
        clean_protein(text)
    assert error.value.fix


def test_whole_sequences_reach_the_store(tmp_path):
    path = tmp_path / "x.fasta.gz"
    path.write_bytes(gzip.compress(b">a\r\nmk-t\r\n>b\r\nMUJ*\r\n"))
    data = ProteinData(path=str(path))
    store = data.open()
    decode = data.tokenizer().decode
    texts = [decode(store.ids[store.offsets[i] : store.offsets[i + 1]]) for i in range(2)]
    assert texts == ["MKT", "MUX"]
    assert store.names([1, 0]) == ["b", "a"]


def test_long_protein_is_kept_and_windowed(tmp_path):
    path = tmp_path / "x.fasta"
    letters = np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), 40_000)
    path.write_text(">titin\n" + "".join(letters) + "\n>b\nMK\n")
    data = ProteinData(path=str(path), max_tokens=64, holdout=0.0)
    store = data.open()
    assert store.lengths().tolist() == [40_002, 4]
    batch = next(data.batches(store, batch_size=2, seed=0))
    window = batch.tokens[batch.examples[:, 0] == 0][0].astype(np.uint8)
    assert window.tobytes() in store.ids.tobytes()


def test_duplicates_stay_on_one_side(fasta):
    data = ProteinData(path=str(fasta), holdout=0.2, max_tokens=128)
    store = data.open()
    held, rest = store.split(0.2, held=True), store.split(0.2, held=False)
    assert 0.1 < len(held) / len(store) < 0.3
    assert sorted([*held, *rest]) == list(range(300))
    lines = fasta.read_text().splitlines()[1::2]
    assert not {lines[i] for i in held} & {lines[i] for i in rest}
    assert len(set(lines)) < 300  # there are duplicates
    seen = [b.examples for b in data.batches(store, batch_size=2, seed=0, holdout=True)]
    numbers = np.concatenate([e[e >= 0] for e in seen])
    assert sorted(numbers) == list(held)
    trained = [b.examples for b in data.batches(store, batch_size=2, seed=0, epochs=1)]
    assert sorted(np.concatenate([e[e >= 0] for e in trained])) == list(rest)


def test_a_fraction_of_the_training_records(fasta):
    whole = ProteinData(path=str(fasta), holdout=0.2, max_tokens=128)
    part = dataclasses.replace(whole, fraction=0.3)

    def used(data, **more):
        batches = data.batches(data.open(), batch_size=2, seed=0, epochs=1, **more)
        numbers = [batch.examples for batch in batches]
        return set(np.concatenate([e[e >= 0] for e in numbers]))

    assert used(part) < used(whole) and 0.1 < len(used(part)) / len(used(whole)) < 0.5
    assert used(part, holdout=True) == used(whole, holdout=True)


def test_without_packing_a_row_holds_one(fasta):
    data = ProteinData(path=str(fasta), pack=False, max_tokens=128)
    batch = next(data.batches(data.open(), batch_size=4, seed=0))
    assert batch.examples.shape == (4, 1) and (batch.examples >= 0).all()
    assert set(np.unique(batch.segment_ids)) == {0, 1}


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"path": ""}, "data.path is empty"),
        ({"views": 1}, "views is 1"),
        ({"views": 4}, "protein has no views"),
        ({"holdout": 1.0}, "holdout is 1.0"),
        ({"tolerance": -0.1}, "tolerance -0.1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"fraction": 0.0}, "data.fraction is 0.0"),
        ({"holdout": 0.0}, "held out; change --data.holdout"),
    ],
)
def test_settings_that_cannot_be(fasta, settings, words):
    with pytest.raises(UserError, match=words):
        data = ProteinData(**{"path": str(fasta), **settings})
        data.batches(data.open(), batch_size=2, seed=0, holdout=True)


def test_folder_of_another_kind(fasta, tmp_path):
    pytest.importorskip("rdkit")
    from biofm_jax.data.molecule import MoleculeData

    ProteinData(path=str(fasta)).prepare(tmp_path / "out")
    assert len(ProteinData(path=str(tmp_path / "out")).open()) == 300
    with pytest.raises(UserError, match="holds protein records, not molecule"):
        MoleculeData(path=str(tmp_path / "out")).open()


def test_real_proteins(biofm_data):
    path = biofm_data / "compbio" / "deeploc_small" / "setHARD.fasta.gz"
    data = ProteinData(path=str(path))
    store = data.open()
    assert len(store) == 490
    unknown = (np.asarray(store.ids) == store.vocabulary.unk).sum()
    assert unknown == 0
    (name,) = store.names([0])
    assert name == "Q12981"
