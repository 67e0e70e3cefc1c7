import numpy as np
import pytest

from biofm_jax.data.smiles import SmilesTokenizer


def tokens(text: str) -> list[str]:
    tokenizer = SmilesTokenizer()
    return [tokenizer.vocabulary.tokens[i] for i in tokenizer.encode(text)[1:-1]]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("CCl", ["C", "Cl"]),
        ("Brc1ccccc1", ["Br", "c", "1", "c", "c", "c", "c", "c", "1"]),
        ("N[C@@H](C)C(=O)[O-]", ["N", "[C@@H]", "(", "C", ")", "C", "(", "=", "O", ")", "[O-]"]),
        ("[Na+].[Cl-]", ["[Na+]", ".", "[Cl-]"]),
        ("C%12CC%12", ["C", "%12", "C", "C", "%12"]),
        ("F/C=C\\F", ["F", "/", "C", "=", "C", "\\", "F"]),
        # Not in the list: spelled out, and the element is one token.
        ("[235U]", ["[", "2", "3", "5", "U", "]"]),
        ("[Sc+3]", ["[", "Sc", "+", "3", "]"]),
        # Outside brackets S and c are two atoms, not scandium.
        ("CSc1[nH]ccc1", ["C", "S", "c", "1", "[nH]", "c", "c", "c", "1"]),
    ],
)
def test_atom_level_tokens(text, expected):
    assert tokens(text) == expected


@pytest.mark.parametrize("text", ["[OsH2@OH21](C)C", "C%99CC%99", "[*:1]CC", "C$C~C", "[Cn]"])
def test_round_trip_of_rare_syntax(text):
    tokenizer = SmilesTokenizer()
    ids = tokenizer.encode(text)
    if text == "[Cn]":  # copernicium is spelled as carbon and nitrogen; the text still returns
        assert tokens(text) == ["[", "C", "n", "]"]
    assert tokenizer.vocabulary.unk not in ids
    assert tokenizer.decode(ids) == text


def test_other_characters_are_unknown():
    assert tokens("C{") == ["C", "<unk>"]
    assert tokens("C C") == ["C", "<unk>", "C"]
    assert tokens("C\nC") == ["C", "<unk>", "C"]


def test_vocabulary_is_a_constant():
    tokenizer = SmilesTokenizer()
    assert tokenizer.vocabulary.size == 317
    assert len(set(tokenizer.vocabulary.tokens)) == 317
    assert tokenizer.vocabulary.special == (0, 1, 2, 3, 4)


def test_encode_many_equals_encode_one_by_one():
    tokenizer = SmilesTokenizer()
    texts = ["CCO", "", "[Sc+3]", "c1ccccc1[N+](=O)[O-]"]
    flat, offsets = tokenizer.encode_many(texts)
    assert flat.dtype == np.uint16
    for i, text in enumerate(texts):
        np.testing.assert_array_equal(flat[offsets[i] : offsets[i + 1]], tokenizer.encode(text))
