import numpy as np
import pytest

pytest.importorskip("rdkit")

from biofm_jax.data.molecule import quickstart_molecules
from biofm_jax.data.molecule_conditions import (
    BINS,
    ConditionedMoleculeData,
    ConditionedSmiles,
    bin_of,
    properties,
)
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.errors import UserError


def named(tokenizer, text):
    return [tokenizer.vocabulary.tokens[i] for i in tokenizer.encode(text)]


def test_conditions_stand_between_cls_and_the_smiles():
    tokenizer = ConditionedSmiles(("logp", "qed"))
    # Ethanol: logP -0.0014, QED 0.407.
    assert named(tokenizer, "CCO") == [
        "<cls>", "<logp=-0.25>", "<qed=0.425>", "C", "C", "O", "<eos>"
    ]  # fmt: skip
    assert named(tokenizer, "<qed=0.8><logp=any>c1cc")[1:4] == ["<logp=any>", "<qed=0.825>", "c"]
    assert named(tokenizer, "")[1:] == ["<logp=any>", "<qed=any>", "<eos>"]
    assert tokenizer.beginning("<qed=0.8>CC") == "<logp=any><qed=0.8>CC"
    assert tokenizer.conditions(tokenizer.encode("<logp=2>CC")) == {"logp": 2.25, "qed": 0.375}


def test_the_smiles_vocabulary_comes_first_and_conditions_are_special():
    tokenizer, plain = ConditionedSmiles(("weight",)), SmilesTokenizer()
    size = plain.vocabulary.size
    assert tokenizer.vocabulary.tokens[:size] == plain.vocabulary.tokens
    assert tokenizer.vocabulary.regular == plain.vocabulary.regular
    assert tokenizer.vocabulary.size == size + 1 + 30
    assert tokenizer.fingerprint() != ConditionedSmiles(("tpsa",)).fingerprint()


def test_a_tenth_of_the_molecules_has_no_condition_and_the_others_their_bin():
    tokenizer, plain = ConditionedSmiles(("logp", "tpsa")), SmilesTokenizer()
    texts = quickstart_molecules().smiles[:500]
    ids, offsets = tokenizer.encode_many(texts)
    open_ones = 0
    for text, start, end in zip(texts, offsets, offsets[1:]):
        row = ids[start:end]
        assert (np.delete(row, [1, 2]) == plain.encode(text)).all()
        assert tokenizer.decode(row) == text and (row == tokenizer.encode(text)).all()
        found = tokenizer.conditions(row)
        open_ones += not found
        for name, value in found.items():
            low, high, width = BINS[name]
            real = np.clip(properties(text, [name])[name], low, high)
            assert abs(real - value) <= width / 2 + 1e-9
    assert 30 < open_ones < 75


def test_values_at_the_edges():
    assert [bin_of("logp", v) for v in (None, -9, -3, -2.51, -2.5, 7.9, 99)] == [
        0,
        1,
        1,
        1,
        2,
        22,
        22,
    ]
    assert bin_of("qed", 1.0) == 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<logp=99>", "-3 to 8, or any"),
        ("<logp=high>CC", "a number of"),
        ("<mass=3>", "knows logp"),
    ],
)
def test_conditions_that_are_none_are_named(text, words):
    with pytest.raises(UserError, match=words):
        ConditionedSmiles(("logp",)).encode(text)


def test_the_data_spec_packs_them_and_refuses_unknown_ones(tmp_path):
    path = tmp_path / "x.smi"
    path.write_text("".join("C" * n + "O\n" for n in range(1, 30)))
    data = ConditionedMoleculeData(path=str(path), max_tokens=64)
    store = data.open()
    batch = next(data.batches(store, batch_size=2, seed=0))
    first = np.argwhere(batch.tokens == data.tokenizer().vocabulary.cls)[:3]
    tokens = data.tokenizer().vocabulary.tokens
    assert all(tokens[batch.tokens[row, column + 1]].startswith("<logp=") for row, column in first)
    for names in ((), ("logp", "logp"), ("mass",)):
        with pytest.raises(UserError, match=r"data\.conditions"):
            ConditionedMoleculeData(conditions=names)
