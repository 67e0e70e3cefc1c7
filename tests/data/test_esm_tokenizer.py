import numpy as np
import pytest
from published_files import ESM2, kmers, letters, nucleotide_transformer, write

from biofm_jax.data.esmc_tokenizer import write_esmc_tokenizer
from biofm_jax.data.published_tokenizers import load_tokenizer
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.errors import UserError

ESM2_ALPHABET = "ACDEFGHIKLMNPQRSTVWYXBUZO.-J*acl \t\n<>ms"
NO_EOS = {"tokenizer_class": "EsmTokenizer", "eos_token": None}
CASES = {
    "esm2": (ESM2, {}, ESM2_ALPHABET),
    "nucleotide transformer 1": (nucleotide_transformer(1), NO_EOS, "ACGTACGTACGTACGTNNUacgR <"),
    "nucleotide transformer 2": (nucleotide_transformer(2), NO_EOS, "ACGTACGTACGTACGTNNUacgR <"),
    "long runs": (nucleotide_transformer(2), NO_EOS, "ACGT" * 20 + "N"),
    "some 3-mers only": ([*ESM2[:4], "<mask>", *kmers(3)[:40], *"ACGTN"], {}, "ACGTN x"),
    "words of letters": ([*ESM2[:4], "<mask>", "AC", "ACGT", "GTA", *"ACGT"], {}, "ACGT<m x"),
}


@pytest.mark.parametrize("tokens, config, alphabet", CASES.values(), ids=CASES)
def test_equals_transformers_on_any_text(tmp_path, tokens, config, alphabet):
    import transformers

    folder = write(tmp_path / "m", vocab__txt="\n".join(tokens), tokenizer_config__json=config)
    theirs = transformers.EsmTokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder, "plain")
    texts = letters(alphabet, 1500, 60) + [
        "A<mask>C",
        "<cls>A<eos>",
        "<null_1>",
        "A\u2003JJ\u2003J心",
    ]
    size = len(tokens)
    expected = {text: [i for i in theirs(text).input_ids if i < size] for text in texts}
    # Texts of single characters and k-mers are cut all at once, the others one by one.
    at_once = [text for text in texts if text.isascii() and "<" not in text]
    assert len(at_once) > 50
    for batch in (texts, at_once):
        flat, offsets = ours.encode_many(batch)
        for text, begin, end in zip(batch, offsets, offsets[1:]):
            assert flat[begin:end].tolist() == expected[text], text
            assert ours.encode(text).tolist() == expected[text], text


def test_the_esm2_file_gives_our_own_vocabulary(tmp_path):
    loaded = load_tokenizer(write(tmp_path / "m", vocab__txt="\n".join(ESM2)))
    own = esm2_tokenizer()
    assert loaded.vocabulary == own.vocabulary
    text = "MKTAYIAKQRXBUZO"
    np.testing.assert_array_equal(loaded.encode(text), own.encode(text))
    assert loaded.decode(loaded.encode(text)) == text


def test_the_nucleotide_transformer_has_cls_and_no_eos(tmp_path):
    folder = write(
        tmp_path / "m",
        vocab__txt="\n".join(nucleotide_transformer(2)),
        tokenizer_config__json=NO_EOS,
    )
    tokenizer = load_tokenizer(folder)
    assert tokenizer.vocabulary.size == 4107
    ids = tokenizer.encode("ATTCCGNATTCCGATT")
    shown = [tokenizer.vocabulary.tokens[i] for i in ids]
    assert shown == ["<cls>", "ATTCCG", "N", "ATTCCG", "A", "T", "T"]
    assert tokenizer.decode(ids) == "ATTCCGNATTCCGATT"


@pytest.mark.parametrize(
    "tokens, message",
    [(["<cls>", "A"], "no <unk>"), (["<cls>", "<unk>", "A", "A"], "line 3: 'A' is listed twice")],
)
def test_a_damaged_file_is_named(tmp_path, tokens, message):
    folder = write(tmp_path / "m", vocab__txt="\n".join(tokens))
    with pytest.raises(UserError, match=f"vocab.txt.*{message}"):
        load_tokenizer(folder)


def test_esmc_equals_transformers(tmp_path):
    import transformers

    write_esmc_tokenizer(tmp_path / "m")
    theirs, ours = transformers.EsmcTokenizer(), load_tokenizer(tmp_path / "m")
    texts = letters(ESM2_ALPHABET + "|", 800, 60) + ["A<mask>C|D", "<cls>", "心 A"]
    flat, offsets = ours.encode_many(texts)
    for text, begin, end in zip(texts, offsets, offsets[1:]):
        assert flat[begin:end].tolist() == theirs(text).input_ids, text
    assert ours.vocabulary.size == 33
    roles = ("cls", "pad", "eos", "unk", "mask")
    assert [getattr(ours.vocabulary, role) for role in roles] == [0, 1, 2, 3, 32]
    assert len(ours.vocabulary.regular) == 27
    assert ours.decode(ours.encode("MKTAYIAK")) == "MKTAYIAK"
