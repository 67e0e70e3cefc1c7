import builtins
import itertools

import pytest
from published_files import WORDS, prose, write

from biofm_jax.data.published_tokenizers import load_tokenizer
from biofm_jax.errors import UserError

FRONT = ["<s>", "<pad>", "</s>", "<unk>"]


def biogpt(path):
    """Letters, letters at the end of a word, and merges of some neighbours."""
    letters = sorted({c for word in WORDS for c in word if c.isascii()} | set("&;#"))
    pairs = {}
    for word in WORDS:
        word = [*word[:-1], word[-1] + "</w>"]
        for left, right in itertools.pairwise(word):
            if left.isascii() and right.isascii():
                pairs[left, right] = pairs.get((left, right), 0) + 1
    ranked = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:80]
    tokens = [*FRONT, *letters, *(f"{c}</w>" for c in letters), *(a + b for a, b in ranked)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    merges = "".join(f"{a} {b} {pairs[a, b]}\n" for a, b in ranked)
    files = {"vocab__json": vocabulary, "merges__txt": merges}
    return write(path, **files, tokenizer_config__json={"tokenizer_class": "BioGptTokenizer"})


def test_equals_transformers(tmp_path):
    import transformers

    folder = biogpt(tmp_path / "m")
    theirs = transformers.BioGptTokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder)
    texts = [*prose(800), "a</s>b <pad> <unk>", "TNF-alpha & IL-6 <5 mg>", 'it\'s "x" [1]']
    flat, offsets = ours.encode_many(texts)
    for text, begin, end in zip(texts, offsets, offsets[1:]):
        expected = theirs(text).input_ids
        assert flat[begin:end].tolist() == expected, text
        assert ours.encode(text).tolist() == expected
    assert (ours.vocabulary.cls, ours.vocabulary.eos, ours.vocabulary.pad) == (2, 2, 1)
    assert ours.decode(ours.encode("the patient was given aspirin")).startswith("the patient")


def test_without_sacremoses_the_extra_is_named(tmp_path, monkeypatch):
    tokenizer = load_tokenizer(biogpt(tmp_path / "m"))
    real = builtins.__import__

    def absent(name, *rest, **options):
        if name == "sacremoses":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"pip install 'biofm_jax\[notes\]'"):
        tokenizer.encode("aspirin")


def test_a_vocabulary_of_another_family(tmp_path):
    files = {"vocab__json": {"a": 0}, "merges__txt": "", "config__json": {"model_type": "biogpt"}}
    with pytest.raises(UserError, match="no </s> or <unk>"):
        load_tokenizer(write(tmp_path / "m", **files))
