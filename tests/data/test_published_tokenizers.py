"""Loading, copying and writing for published tokenizers, and what is wrong with bad folders."""

import json

import numpy as np
import pytest
from published_files import (
    BERT_SPECIALS,
    ESM2,
    MASK,
    PROTBERT,
    PROTT5,
    ROBERTA,
    WORDS,
    kmers,
    nucleotide_transformer,
    prose,
    sentencepiece,
    with_specials,
    write,
)

from biofm_jax.data.published_tokenizers import copy_tokenizer, load_tokenizer
from biofm_jax.errors import UserError

FOLDERS = {
    "protbert": ({"vocab__txt": "\n".join(PROTBERT)}, "MKU", "[CLS] M K X [SEP]"),
    "prott5": ({"spiece__model": sentencepiece(PROTT5, 2)}, "MKU", "▁M ▁K ▁X </s>"),
    "esm2": ({"vocab__txt": "\n".join(ESM2)}, "MKU", "<cls> M K U <eos>"),
    "dnabert 3": (
        {"vocab__txt": "\n".join(BERT_SPECIALS + kmers(3))},
        "ACGTN",
        "[CLS] ACG CGT [UNK] [SEP]",
    ),
    "nucleotide transformer": (
        {
            "vocab__txt": "\n".join(nucleotide_transformer(1)),
            "tokenizer_config__json": {"tokenizer_class": "EsmTokenizer", "eos_token": None},
        },
        "ACGTACGTNACGTAC",
        "<cls> ACGTAC G T N ACGTAC",
    ),
}


@pytest.mark.parametrize("files, text, tokens", FOLDERS.values(), ids=FOLDERS)
def test_the_tokens_of_a_sequence(tmp_path, files, text, tokens):
    tokenizer = load_tokenizer(write(tmp_path / "m", **files))
    shown = [tokenizer.vocabulary.tokens[i] for i in tokenizer.encode(text)]
    assert shown == tokens.split()


PROGEN2 = {
    token: i
    for i, token in enumerate(["<|pad|>", "<|bos|>", "<|eos|>", *"12ABCDEFGHIKLMNOPQRSTUVWXYZ*"])
}


def progen2_json() -> dict:
    """The published file's form: characters under a byte-level BPE without merges."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    level = {"type": "ByteLevel", "trim_offsets": True}
    added = [
        {"id": i, "content": token, "special": True, **flags}
        for token, i in list(PROGEN2.items())[:3]
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {**level, "add_prefix_space": False},
        "post_processor": {**level, "add_prefix_space": True},
        "decoder": {**level, "add_prefix_space": True},
        "model": {"type": "BPE", "fuse_unk": False, "vocab": PROGEN2, "merges": []},
    }


def test_progen2_writes_the_terminals(tmp_path):
    ours = load_tokenizer(write(tmp_path / "m", tokenizer__json=progen2_json()))
    ids = ours.encode("MKV")
    assert ids.tolist() == [PROGEN2[c] for c in "1MKV2"]
    assert ours.decode(ids) == "MKV"
    assert (ours.vocabulary.pad, ours.vocabulary.eos) == (0, 2)
    raw = load_tokenizer(tmp_path / "m", "plain")
    assert raw.encode("1MK").tolist() == [PROGEN2[c] for c in "1MK"]


def test_protgpt2_writes_lines_of_sixty(tmp_path, byte_level):
    vocabulary = with_specials(byte_level[0], [], ["<|endoftext|>"])
    folder = write(tmp_path / "m", vocab__json=vocabulary, merges__txt=byte_level[1])
    ours, raw = load_tokenizer(folder, "protgpt2"), load_tokenizer(folder)
    written = "<|endoftext|>" + "M" * 60 + "\n" + "K" * 5 + "<|endoftext|>"
    np.testing.assert_array_equal(ours.encode("M" * 60 + "K" * 5), raw.encode(written))
    assert ours.decode(ours.encode("M" * 60 + "K" * 5)) == "M" * 60 + "K" * 5
    assert ours.fingerprint() != raw.fingerprint()


def test_files_are_copied_byte_for_byte(tmp_path, byte_level):
    vocabulary = with_specials(byte_level[0], ROBERTA, ["<mask>"])
    folder = write(
        tmp_path / "m",
        vocab__json=json.dumps(vocabulary, indent=3),
        merges__txt=byte_level[1],
        config__json={"model_type": "roberta"},
        special_tokens_map__json={"mask_token": MASK},
    )
    names = copy_tokenizer(folder, tmp_path / "out")
    assert names == ("vocab.json", "merges.txt", "special_tokens_map.json")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    loaded, copied = load_tokenizer(folder), load_tokenizer(tmp_path / "out")
    assert loaded.fingerprint() == copied.fingerprint()
    assert load_tokenizer(folder) is loaded  # read once


def test_llama_equals_sentencepiece(tmp_path):
    import sentencepiece as spm

    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 20),
        model_prefix=str(tmp_path / "x"),
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    raw = (tmp_path / "x.model").read_bytes()
    theirs = spm.SentencePieceProcessor(model_proto=raw)
    ours = load_tokenizer(write(tmp_path / "m", tokenizer__model=raw))
    assert (ours.vocabulary.cls, ours.vocabulary.eos, ours.vocabulary.unk) == (1, 2, 0)
    for text in prose(800):
        assert ours.encode(text).tolist() == [1, *theirs.encode(text)], text
    assert ours.decode(ours.encode("aspirin 心臓 daily")) == "aspirin 心臓 daily"
    config = {"add_bos_token": False, "add_eos_token": True}
    ours = load_tokenizer(write(tmp_path / "m", tokenizer_config__json=config))
    assert ours.encode("aspirin").tolist() == [*theirs.encode("aspirin"), 2]


BAD = {
    "nothing": ({}, "no tokenizer; copy tokenizer.json, or vocab.txt"),
    "half": ({"vocab__json": {"a": 0}}, "merges.txt: missing"),
    "no JSON": ({"tokenizer__json": "{"}, "tokenizer.json: no JSON"),
    "not a tokenizer": ({"tokenizer__json": {"a": 1}}, "tokenizer.json: no tokenizer"),
    "no words": ({"vocab__txt": "a\nb\n"}, r"vocab.txt: no \[UNK\]"),
    "other merges": ({"vocab__json": {"a": 0}, "merges__txt": "b c\n"}, "does not fit vocab.json"),
    "cut short": ({"spiece__model": sentencepiece(PROTT5, 2)[:100]}, "cut short"),
    "empty pieces": ({"spiece__model": b""}, "no sentencepiece model"),
    "no end": ({"spiece__model": sentencepiece(PROTT5[2:], 0)}, "no </s> among its pieces"),
    "ESM without words": (
        {"tokenizer_config__json": {"tokenizer_class": "EsmTokenizer"}},
        "vocab.txt: missing",
    ),
    "odd added tokens": (
        {"vocab__txt": "[UNK]", "tokenizer_config__json": {"added_tokens_decoder": {"a": {}}}},
        "special tokens of an unknown form",
    ),
    "added tokens of another model": (
        {"vocab__txt": "[UNK]\n[CLS]\n[SEP]", "added_tokens__json": {"<drug>": 9}},
        "'<drug>' has id 9 in its file, but 3 after the 3 tokens",
    ),
    "Latin-1": ({"vocab__txt": b"[UNK]\n\xe9\n"}, "vocab.txt: not UTF-8"),
    "unknown id": ({"spiece__model": sentencepiece(PROTT5, 99)}, "no piece has the unknown id 99"),
    "list": ({"vocab__txt": "[UNK]", "tokenizer_config__json": "[1]"}, "no JSON object"),
}


@pytest.mark.parametrize("files, message", BAD.values(), ids=BAD)
def test_what_is_missing_or_damaged_is_named(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        load_tokenizer(write(tmp_path / "m", **files))


def test_a_sentencepiece_file_cut_anywhere_is_refused(tmp_path):
    whole = sentencepiece(PROTT5, 2)
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"m/spiece\.model: no sentencepiece model, or cut"):
            load_tokenizer(write(tmp_path / "m", spiece__model=whole[:length]))


def test_an_unknown_folder_or_family(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_tokenizer(tmp_path / "absent")
    folder = write(tmp_path / "m", vocab__txt="\n".join(PROTBERT))
    with pytest.raises(UserError, match="unknown family of tokenizers 'bert'; choose one of plain"):
        load_tokenizer(folder, "bert")
