"""Prompts begin as the tokenizer begins a text, and lose nothing but what it puts behind one."""

import pytest
from published_files import PROTT5, sentencepiece, write

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.adapt.prompts import read_prompts, read_sources, rules
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.notes import NotesData
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.transformer import TransformerSpec

END = "<|endoftext|>"
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


def model(data, pair=False):
    return Encoder("toy", EncoderDecoderSpec() if pair else TransformerSpec(causal=True), data)


def characters(folder, letters):
    """A byte-level BPE of single characters, behind GPT-2's end of text."""
    vocabulary = {token: i for i, token in enumerate((END, *letters))}
    return write(folder, vocab__json=vocabulary, merges__txt="#version: 0.2\n")


def shown(encoder, sequences):
    tokens = encoder.data.tokenizer().vocabulary.tokens
    return [" ".join(tokens[i] for i in each) for each in sequences]


def stops(encoder):
    return shown(encoder, [rules(encoder).stop])[0]


def test_gpt2_puts_nothing_behind_a_text_and_no_token_is_lost(tmp_path):
    folder = characters(tmp_path / "gpt2", "Ġabcdefghijklmnopqrstuvwxyz")
    encoder = model(NotesData(tokenizer_path=str(folder)))
    assert shown(encoder, read_prompts(encoder, ["the dose"])) == ["t h e Ġ d o s e"]
    assert stops(encoder) == END
    with pytest.raises(UserError, match="prompt 1 is empty"):
        read_prompts(encoder, [""])


def test_progen2_begins_at_the_one_terminal_and_stops_at_the_other(tmp_path):
    encoder = model(ProteinData(tokenizer_path=str(characters(tmp_path / "p", "12" + RESIDUES))))
    assert shown(encoder, read_prompts(encoder, ["MKT", ""])) == ["1 M K T", "1"]
    assert stops(encoder) == f"{END} 2"


def test_this_packages_own_texts_end_at_eos():
    for data in (ProteinData(), MoleculeData(), NotesData()):
        encoder = model(data)
        (prompt,) = shown(encoder, read_prompts(encoder, ["CNCC"]))
        assert prompt.startswith("<cls> ") and len(prompt.split()) == 5
        assert stops(encoder) == "<eos>"


def test_t5_begins_at_the_padding_and_reads_its_sentinels(tmp_path):
    folder = write(tmp_path / "t5", spiece__model=sentencepiece(PROTT5, 2))
    encoder = model(ProteinData(tokenizer_path=str(folder)), pair=True)
    assert shown(encoder, read_prompts(encoder, ["", "MK"])) == ["<pad>", "<pad> ▁M ▁K"]
    assert shown(encoder, read_sources(encoder, ["mkj", "M<extra_id_1>KL<extra_id_0>"])) == [
        "▁M ▁K ▁X </s>",
        "▁M <extra_id_1> ▁K ▁L <extra_id_0> </s>",
    ]
    assert stops(encoder) == "</s>"


def test_sources_hide_what_they_name():
    encoder = model(ProteinData(), pair=True)
    assert shown(encoder, read_sources(encoder, ["MK<mask><mask>T", "<mask>"])) == [
        "<cls> M K <mask> <mask> T <eos>",
        "<cls> <mask> <eos>",
    ]
    assert read_sources(encoder, ["mk-t"])[0].tolist() == encoder.tokenize(["MKT"])[0].tolist()
    with pytest.raises(UserError, match="source 2, 'M7<mask>': token 2 is unknown"):
        read_sources(encoder, ["M", "M7<mask>"])
    with pytest.raises(UserError, match="gaps and stops"):
        read_sources(encoder, ["--"])
