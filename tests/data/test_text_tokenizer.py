import pytest
import transformers
from published_files import (
    BERT_SPECIALS,
    MASK,
    PROTBERT,
    PROTT5,
    ROBERTA,
    WORDS,
    kmers,
    letters,
    prose,
    sentencepiece,
    with_specials,
    write,
)

from biofm_jax.data.published_tokenizers import load_tokenizer


def check(theirs, ours, texts):
    """Ids of both for all texts, one by one and at once."""
    flat, offsets = ours.encode_many(texts)
    for text, begin, end in zip(texts, offsets, offsets[1:]):
        expected = theirs(text).input_ids
        assert flat[begin:end].tolist() == expected, text
        assert ours.encode(text).tolist() == expected, text
    vocabulary = ours.vocabulary
    assert vocabulary.size == max(theirs.get_vocab().values()) + 1
    for token, i in theirs.get_vocab().items():
        assert vocabulary.tokens[i] == token
    assert not set(theirs.all_special_ids) & set(vocabulary.regular)
    if theirs.mask_token_id is not None:
        assert vocabulary.mask == theirs.mask_token_id
    if theirs.pad_token_id is not None:
        assert vocabulary.pad == theirs.pad_token_id


def wordpieces(lower: bool) -> list[str]:
    words = [word.lower() if lower else word for word in WORDS]
    cut = {word[:n] for word in words for n in (1, 2, 3, len(word))}
    cut |= {f"##{word[n:]}" for word in words for n in (1, 2, 3) if word[n:]}
    cut |= set("abcdefghijklmnop,.;()-'0123456789") | {f"##{c}" for c in "abcdefgst0123456789"}
    return BERT_SPECIALS + sorted(cut - set(BERT_SPECIALS))


BERTS = {
    "uncased": (True, {"do_lower_case": True}),
    "cased (BioBERT)": (False, {"do_lower_case": False}),
    "no configuration": (True, None),
    "accents kept": (True, {"do_lower_case": True, "strip_accents": False}),
    "CJK left together": (True, {"do_lower_case": True, "tokenize_chinese_chars": False}),
}


@pytest.mark.parametrize("lower, config", BERTS.values(), ids=BERTS)
def test_wordpiece_equals_transformers(tmp_path, lower, config):
    folder = write(tmp_path / "m", vocab__txt="\n".join(wordpieces(lower)) + "\n")
    if config is not None:
        write(folder, tokenizer_config__json=config)
    theirs = transformers.BertTokenizer.from_pretrained(folder)
    texts = prose(1500) + ["a [MASK] b[SEP]c", "[CLS][PAD][UNK]", "x" * 300]
    check(theirs, load_tokenizer(folder), texts)


ROBERTAS = {
    "plain": {},
    "class named": {"tokenizer_config__json": {"tokenizer_class": "RobertaTokenizer"}},
    "prefix space": {"tokenizer_config__json": {"add_prefix_space": True}},
    "mask takes the space": {"special_tokens_map__json": {"mask_token": MASK, "bos_token": "<s>"}},
    "added token": {"added_tokens__json": {"<drug>": 385}},
    "decoder of added tokens": {
        "tokenizer_config__json": {
            "added_tokens_decoder": {"384": MASK | {"special": True}},
            "mask_token": "<mask>",
        }
    },
}


@pytest.mark.parametrize("files", ROBERTAS.values(), ids=ROBERTAS)
def test_roberta_equals_transformers(tmp_path, byte_level, files):
    vocabulary = with_specials(byte_level[0], ROBERTA, ["<mask>"])
    assert vocabulary["<mask>"] == 384
    folder = write(tmp_path / "m", vocab__json=vocabulary, merges__txt=byte_level[1], **files)
    theirs = transformers.RobertaTokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder)
    check(theirs, ours, prose(1500) + ["a <mask> b</s>c", "a<drug> b", "<s><pad>"])
    assert (ours.vocabulary.cls, ours.vocabulary.eos) == (0, 2)


def test_gpt2_equals_transformers(tmp_path, byte_level):
    vocabulary = with_specials(byte_level[0], [], ["<|endoftext|>"])
    folder = write(tmp_path / "m", vocab__json=vocabulary, merges__txt=byte_level[1])
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder)
    check(theirs, ours, [*prose(1500), "a<|endoftext|>b"])
    end = len(vocabulary) - 1
    assert (ours.vocabulary.cls, ours.vocabulary.eos, ours.vocabulary.pad) == (-1, end, end)
    assert ours.decode(ours.encode("aspirin daily")) == "aspirin daily"


@pytest.mark.parametrize("frame", [(True, False), (True, True), (False, True)])
def test_gpt2_with_a_frame_equals_transformers(tmp_path, byte_level, frame):
    vocabulary = with_specials(byte_level[0], [], ["<|endoftext|>"])
    config = {"add_bos_token": frame[0], "add_eos_token": frame[1]}
    files = {"merges__txt": byte_level[1], "tokenizer_config__json": config}
    folder = write(tmp_path / "m", vocab__json=vocabulary, **files)
    check(transformers.GPT2Tokenizer.from_pretrained(folder), load_tokenizer(folder), prose(50))


def test_a_named_token_that_the_vocabulary_lacks_is_added_behind_it(tmp_path, byte_level):
    vocabulary = with_specials(byte_level[0], [], ["<|endoftext|>"])
    folder = write(
        tmp_path / "m",
        vocab__json=vocabulary,
        merges__txt=byte_level[1],
        special_tokens_map__json={"pad_token": "[PAD]"},
    )
    check(transformers.GPT2Tokenizer.from_pretrained(folder), load_tokenizer(folder), prose(50))
    assert load_tokenizer(folder).vocabulary.pad == len(vocabulary)


@pytest.mark.parametrize("saved", ["bert", "roberta", "gpt2"])
def test_tokenizer_json_equals_transformers(tmp_path, byte_level, saved):
    parts = {"merges__txt": byte_level[1]}
    if saved == "bert":
        folder = write(tmp_path / "m", vocab__txt="\n".join(wordpieces(True)))
        theirs = transformers.BertTokenizer.from_pretrained(folder)
    elif saved == "roberta":
        vocabulary = with_specials(byte_level[0], ROBERTA, ["<mask>"])
        folder = write(tmp_path / "m", vocab__json=vocabulary, **parts)
        theirs = transformers.RobertaTokenizer.from_pretrained(folder)
    else:
        vocabulary = with_specials(byte_level[0], [], ["<|endoftext|>"])
        folder = write(tmp_path / "m", vocab__json=vocabulary, **parts)
        theirs = transformers.GPT2Tokenizer.from_pretrained(folder)
    theirs.save_pretrained(tmp_path / "whole")
    assert (tmp_path / "whole" / "tokenizer.json").is_file()
    check(theirs, load_tokenizer(tmp_path / "whole"), prose(500))


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path):
    folder = write(tmp_path / "m", vocab__txt="\n".join(wordpieces(True)))
    whole = transformers.BertTokenizer.from_pretrained(folder).backend_tokenizer
    whole.enable_truncation(6)
    whole.enable_padding(length=6)
    folder = write(tmp_path / "whole", tokenizer__json=whole.to_str())
    ours = load_tokenizer(folder)
    assert len(ours.encode("the patient was given aspirin daily")) == 8
    assert len(ours.encode("")) == 2
    assert ours.vocabulary.pad == 0


def test_protbert_and_dnabert_are_told_by_their_vocabulary(tmp_path):
    protbert = write(tmp_path / "p", vocab__txt="\n".join(PROTBERT))
    theirs = transformers.BertTokenizer.from_pretrained(protbert, do_lower_case=False)
    for text in letters("ACDEFGHIKLMNPQRSTVWYUZOBX", 300, 50):
        spaced = " ".join(text.translate(str.maketrans("UZOB", "XXXX")))
        assert load_tokenizer(protbert).encode(text).tolist() == theirs(spaced).input_ids
    for k in (3, 4, 5, 6):
        folder = write(tmp_path / f"d{k}", vocab__txt="\n".join(BERT_SPECIALS + kmers(k)))
        theirs = transformers.BertTokenizer.from_pretrained(folder, do_lower_case=False)
        ours = load_tokenizer(folder)
        for text in letters("ACGTACGTACGTN", 200, 40):
            words = " ".join(text[i : i + k] for i in range(len(text) - k + 1))
            assert ours.encode(text).tolist() == theirs(words).input_ids
        assert ours.decode(ours.encode("ACGTTGCA")) == "ACGTTGCA"


def test_prott5_from_its_sentencepiece_file(tmp_path):
    folder = write(tmp_path / "m", spiece__model=sentencepiece(PROTT5, unknown=2))
    theirs = transformers.T5Tokenizer(vocab=[(piece, score) for piece, score, _ in PROTT5])
    ours = load_tokenizer(folder)
    assert ours.vocabulary.size == 128
    assert (ours.vocabulary.pad, ours.vocabulary.eos, ours.vocabulary.unk) == (0, 1, 2)
    assert ours.vocabulary.tokens[127] == "<extra_id_0>"
    for text in letters("ACDEFGHIKLMNPQRSTVWYUZOBX", 300, 50):
        spaced = " ".join(text.translate(str.maketrans("UZOB", "XXXX")))
        expected = [i for i in theirs(spaced).input_ids]
        assert ours.encode(text).tolist() == expected
    assert ours.decode(ours.encode("MKTAYIAK")) == "MKTAYIAK"


def test_t5_words_equal_transformers_reading_the_same_file(tmp_path):
    cut = {f"▁{word[:n]}" for word in WORDS for n in (1, 2, 4, 9)} | {w[2:] for w in WORDS if w[2:]}
    single = set("abcdefghijklmnopqrstuvwxyz,.;()0123456789▁")
    scored = [
        (piece, -1.0 - len(piece) % 7 - i / 997, 1) for i, piece in enumerate(sorted(cut | single))
    ]
    pieces = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2), *scored]
    folder = write(tmp_path / "m", spiece__model=sentencepiece(pieces, unknown=2))
    theirs = transformers.T5Tokenizer.from_pretrained(folder)
    check(theirs, load_tokenizer(folder), [*prose(800), "a <extra_id_3> b"])


FRAMES = [{}, {"add_bos_token": True}, {"add_bos_token": True, "add_eos_token": True}]


@pytest.mark.parametrize("frame", FRAMES)
def test_the_frame_of_tokenizer_json_stands(tmp_path, byte_level, frame):
    vocabulary = with_specials(byte_level[0], ROBERTA, ["<mask>"])
    folder = write(tmp_path / "m", vocab__json=vocabulary, merges__txt=byte_level[1])
    whole = transformers.RobertaTokenizer.from_pretrained(folder).backend_tokenizer.to_str()
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", **frame}
    files = {"tokenizer_config__json": config | {"eos_token": "</s>"}}
    folder = write(tmp_path / "w", tokenizer__json=whole, **files)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    check(theirs, load_tokenizer(folder), prose(100))
