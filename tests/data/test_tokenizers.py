import numpy as np
import pytest

from biofm_jax.data.tokenizers import KmerTokenizer, Vocabulary, esm2_tokenizer


def test_esm2_alphabet_is_the_published_one():
    vocabulary = esm2_tokenizer().vocabulary
    # Ids of fair-esm's Alphabet for ESM-1b and ESM-2.
    assert vocabulary.size == 33
    assert (vocabulary.cls, vocabulary.pad, vocabulary.eos, vocabulary.unk) == (0, 1, 2, 3)
    assert vocabulary.mask == 32
    assert [vocabulary.tokens[i] for i in (4, 5, 20, 23, 24, 28, 30)] == list("LAMCXO-")
    assert vocabulary.special == (0, 1, 2, 3, 31, 32)
    assert set(vocabulary.regular) | set(vocabulary.special) == set(range(33))


def test_esm2_encodes_as_the_reference_does():
    tokenizer = esm2_tokenizer()
    # fair-esm: batch_converter([("", "MKTVRQ")]).
    np.testing.assert_array_equal(tokenizer.encode("MKTVRQ"), [0, 20, 15, 11, 7, 10, 16, 2])
    assert tokenizer.encode("m").dtype == np.int32
    np.testing.assert_array_equal(tokenizer.encode("mé*"), [0, 20, 3, 3, 2])
    assert tokenizer.decode(tokenizer.encode("ACDUOBZX")) == "ACDUOBZX"


def test_encode_many_equals_encode_one_by_one():
    tokenizer = esm2_tokenizer()
    texts = ["MKT", "", "ACDEFGHIKLMNPQRSTVWY", "W"]
    flat, offsets = tokenizer.encode_many(texts)
    assert flat.dtype == np.uint8 and offsets.dtype == np.int64
    for i, text in enumerate(texts):
        np.testing.assert_array_equal(flat[offsets[i] : offsets[i + 1]], tokenizer.encode(text))
    assert offsets[-1] == len(flat)


def test_vocabulary_fingerprint_follows_order():
    first = Vocabulary.of(("<pad>", "A", "B"))
    assert first.fingerprint() == Vocabulary.of(("<pad>", "A", "B")).fingerprint()
    assert first.fingerprint() != Vocabulary.of(("<pad>", "B", "A")).fingerprint()
    assert first.mask == first.unk == -1
    with pytest.raises(ValueError, match="twice"):
        Vocabulary.of(("A", "A"))


def kmers(tokenizer: KmerTokenizer, text: str) -> list[str]:
    return [tokenizer.vocabulary.tokens[i] for i in tokenizer.encode(text)[1:-1]]


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("ACGTAC", ["ACG", "TAC"]),
        ("ACGTA", ["ACG", "T", "A"]),
        ("AC", ["A", "C"]),
        ("", []),
        ("ACGNACGT", ["ACG", "N", "ACG", "T"]),
        ("ACNNACG", ["A", "C", "N", "N", "ACG"]),
        ("acgu", ["ACG", "T"]),
    ],
)
def test_kmers_without_overlap(text, tokens):
    assert kmers(KmerTokenizer(3, 3), text) == tokens


@pytest.mark.parametrize(
    "stride, text, tokens",
    [
        (1, "ACGTA", ["ACG", "CGT", "GTA"]),
        (1, "ACNTAC", ["<unk>", "<unk>", "<unk>", "TAC"]),
        (2, "ACGTAC", ["ACG", "GTA", "C"]),
        (1, "AC", ["A", "C"]),
    ],
)
def test_kmers_with_overlap(stride, text, tokens):
    assert kmers(KmerTokenizer(3, stride), text) == tokens


@pytest.mark.parametrize("k, stride", [(6, 6), (6, 1), (4, 3), (1, 1), (3, 2)])
def test_kmers_round_trip_and_batches_equal_single(k, stride):
    tokenizer = KmerTokenizer(k, stride)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGT"), size)) for size in rng.integers(0, 40, 50)]
    flat, offsets = tokenizer.encode_many(texts)
    for i, text in enumerate(texts):
        assert tokenizer.decode(flat[offsets[i] : offsets[i + 1]]) == text
        np.testing.assert_array_equal(flat[offsets[i] : offsets[i + 1]], tokenizer.encode(text))


def test_kmer_vocabulary_and_bad_stride():
    # 4^6 6-mers, A C G T N and five specials.
    assert KmerTokenizer(6, 6).vocabulary.size == 4096 + 5 + 5
    assert KmerTokenizer(6, 6).fingerprint() != KmerTokenizer(6, 1).fingerprint()
    with pytest.raises(ValueError, match="stride"):
        KmerTokenizer(3, 4)
