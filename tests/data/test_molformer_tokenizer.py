"""MoLFormer's tokens: from the published list, from the authors' list, from a whole tokenizer."""

import json

import numpy as np
import pytest

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.published_tokenizers import copy_tokenizer, load_tokenizer
from biofm_jax.errors import UserError

SPECIAL = ["<bos>", "<eos>", "<pad>", "<mask>"]
PLAIN = "C c ( ) 1 O N 2 = n 3 [C@H] [nH] Cl Br S s F # %10 [N+] [O-] / \\ . <unk>"
TOKENS = [*SPECIAL, *PLAIN.split()]
NAMES = {"bos": "<bos>", "cls": "<bos>", "eos": "<eos>", "sep": "<eos>", "pad": "<pad>",
         "mask": "<mask>", "unk": "<unk>"}  # fmt: skip
SMILES = {
    "CCO": "C C O",
    "Clc1ccc(Br)cc1": "Cl c 1 c c c ( Br ) c c 1",
    "C[C@H](N)C(=O)[O-].F/C=C\\F": "C [C@H] ( N ) C ( = O ) [O-] . F / C = C \\ F",
    "C%10CC%10": "C %10 C C %10",
    "C[Na+]B": "C <unk> <unk>",
}


def published(folder):
    """The files of the published model but for `tokenizer.json`."""
    config = {f"{role}_token": token for role, token in NAMES.items()}
    config["tokenizer_class"] = "MolformerTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(TOKENS)}))


def check(tokenizer, tokens):
    flat, offsets = tokenizer.encode_many(list(SMILES))
    unknown = "<unk>" if "<unk>" in tokens else "<pad>"
    for (smiles, cut), start, end in zip(SMILES.items(), offsets[:-1], offsets[1:], strict=True):
        cut = cut.replace("<unk>", unknown).split()
        want = [tokens.index(token) for token in ("<bos>", *cut, "<eos>")]
        assert flat[start:end].tolist() == want == tokenizer.encode(smiles).tolist()
        if unknown not in cut:
            assert tokenizer.decode(np.array(want)) == smiles
    vocabulary = tokenizer.vocabulary
    assert vocabulary.size == len(tokens)
    assert (vocabulary.cls, vocabulary.eos, vocabulary.pad, vocabulary.mask) == (0, 1, 2, 3)


def test_the_published_list(tmp_path):
    published(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    check(tokenizer, TOKENS)
    assert MoleculeData(tokenizer_path=str(tmp_path)).tokenizer() is tokenizer
    assert copy_tokenizer(tmp_path, tmp_path / "copy") == ("vocab.json", "tokenizer_config.json")
    # A whole tokenizer beside the list is read in its place, and gives the same ids.
    tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    check(load_tokenizer(tmp_path), TOKENS)


def test_the_authors_list_reads_the_unknown_as_padding(tmp_path):
    (tmp_path / "bert_vocab.txt").write_text("\n".join(TOKENS[:-1]) + "\n")
    check(load_tokenizer(tmp_path), TOKENS[:-1])
    assert copy_tokenizer(tmp_path, tmp_path / "copy") == ("bert_vocab.txt",)


def test_a_bad_list_is_refused(tmp_path):
    published(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"<bos>": 0, "C": 2}))
    with pytest.raises(UserError, match="its ids are not 0 to 1"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"<bos>": 0, "C": 1}))
    with pytest.raises(UserError, match="no <eos> and <pad> and <mask> and <unk> among"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "molformer"}))
    with pytest.raises(UserError, match=r"bert_vocab\.txt: missing"):
        load_tokenizer(tmp_path)
