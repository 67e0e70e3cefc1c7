import numpy as np
import pytest

pytest.importorskip("rdkit")
pytest.importorskip("selfies")

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.molecule import MoleculeData, canonical_smiles, quickstart_molecules
from biofm_jax.data.selfies_tokenizer import SelfiesData, SelfiesTokenizer
from biofm_jax.errors import UserError


def named(text):
    tokenizer = SelfiesTokenizer()
    return [tokenizer.vocabulary.tokens[i] for i in tokenizer.encode(text)][1:-1]


def test_a_symbol_is_a_token_and_others_are_spelled_out():
    assert named("C=CO") == ["[C]", "[=C]", "[O]"]
    assert named("C1CC1.[Na+]") == ["[C]", "[C]", "[C]", "[Ring1]", "[Ring1]", ".", "[Na+1]"]
    assert named("[14CH3]O") == [*"[14CH3]", "[O]"]
    assert named("") == [] and named("C1CC") == ["<unk>"]


def test_real_molecules_come_back_as_themselves():
    tokenizer, data = SelfiesTokenizer(), SelfiesData()
    texts = []
    for text in quickstart_molecules().smiles[:400]:
        try:
            texts.append(data.clean(text))
        except BadText:
            continue
    assert 390 < len(texts) <= 400
    ids, offsets = tokenizer.encode_many(texts)
    assert tokenizer.vocabulary.unk not in ids
    for text, start, end in zip(texts, offsets, offsets[1:]):
        assert (ids[start:end] == tokenizer.encode(text)).all()
        assert canonical_smiles(tokenizer.decode(ids[start:end])) == text


def test_any_sequence_of_symbols_is_a_molecule():
    tokenizer, rng = SelfiesTokenizer(), np.random.default_rng(0)
    first = tokenizer.vocabulary.tokens.index("[Branch1]")
    last = tokenizer.vocabulary.tokens.index("[I]")
    made = [tokenizer.decode(rng.integers(first, last + 1, 12)) for _ in range(50)]
    assert all(canonical_smiles(text) for text in made if text)
    assert len(set(made)) > 40


def test_a_molecule_without_selfies_is_a_bad_record(tmp_path):
    path = tmp_path / "x.smi"
    path.write_text("CCO\nCl[I]Cl\n")
    with pytest.raises(BadText, match="more bonds than they allow"):
        SelfiesData().clean("Cl[I]Cl")
    data = SelfiesData(path=str(path), tolerance=0.5, views=2, holdout=0.0)
    store = data.open()
    assert len(store) == 1 and store.views == 3
    assert data.tokenizer().decode(store.ids[store.offsets[0] : store.offsets[1]]) == "CCO"
    MoleculeData(path=str(path)).prepare(tmp_path / "smiles")
    with pytest.raises(UserError, match="prepared for SMILES"):
        SelfiesData(path=str(tmp_path / "smiles")).open()
