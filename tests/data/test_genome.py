import numpy as np
import pytest
from published_files import BERT_SPECIALS, kmers, letters, nucleotide_transformer, write

from biofm_jax.data.bad_records import BadText
from biofm_jax.data.genome import GenomeData, clean_bases
from biofm_jax.errors import UserError

NO_EOS = {"tokenizer_class": "EsmTokenizer", "eos_token": None}


@pytest.mark.parametrize(
    "text, clean",
    [("acgu", "ACGT"), ("AC-GT..", "ACGT"), ("ARYSWKMBDHVN", "AN" + "N" * 10), ("AUUGC", "ATTGC")],
)
def test_the_rule_for_letters(text, clean):
    assert clean_bases(text) == clean


@pytest.mark.parametrize("text, message", [("ACGX", "'X' at base 4"), ("--", "only gaps")])
def test_what_is_no_base(text, message):
    with pytest.raises(BadText, match=message):
        clean_bases(text)


def test_rna_lower_case_and_dna_get_the_same_ids(tmp_path):
    folder = write(
        tmp_path / "nt",
        vocab__txt="\n".join(nucleotide_transformer(2)),
        tokenizer_config__json=NO_EOS,
    )
    for data in (GenomeData(), GenomeData(tokenizer_path=str(folder))):
        ids = [data.tokenizer().encode(data.clean(t)).tolist() for t in ("ACGTUA", "acguta")]
        assert ids[0] == ids[1] and len(ids[0]) >= 2


def test_an_rna_vocabulary_reads_t_as_u(tmp_path):
    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *"ACGUN", "<mask>"]
    folder = write(tmp_path / "rna", vocab__txt="\n".join(tokens))
    data = GenomeData(tokenizer_path=str(folder))
    tokenizer = data.tokenizer()
    for text in ("ACGUN", "ACGTN", "acgun"):
        assert tokenizer.encode(data.clean(text)).tolist() == [0, 4, 5, 6, 7, 8, 2]
    assert tokenizer.decode(tokenizer.encode("ACGTN")) == "ACGTN"


@pytest.mark.parametrize("published", ["", "nt", "dnabert"])
def test_a_fasta_file_becomes_batches(tmp_path, published):
    path = ""
    if published == "nt":
        files = {"vocab__txt": "\n".join(nucleotide_transformer(1))}
        path = str(write(tmp_path / "m", **files, tokenizer_config__json=NO_EOS))
    elif published:
        path = str(write(tmp_path / "m", vocab__txt="\n".join(BERT_SPECIALS + kmers(3))))
    texts = [text for text in letters("ACGTacgtNU", 60, 80) if text]
    fasta = tmp_path / "x.fna"
    fasta.write_text("".join(f">s{i}\n{text}\n" for i, text in enumerate(texts)))
    data = GenomeData(path=str(fasta), max_tokens=64, segments=4, tokenizer_path=path)
    store, tokenizer = data.open(), data.tokenizer()
    assert len(store) == len(texts)
    for i in (0, 7, 50):
        ids = store.ids[store.offsets[i] : store.offsets[i + 1]]
        np.testing.assert_array_equal(ids, tokenizer.encode(data.clean(texts[i])))
    batch = next(data.batches(store, batch_size=4, seed=0))
    assert batch.tokens.shape == (4, 64)
    assert batch.tokens.max() < tokenizer.vocabulary.size


def test_a_family_without_a_folder_and_a_folder_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="tokenizer_path is empty"):
        GenomeData(tokenizer_family="rna")
    with pytest.raises(UserError, match="no such folder"):
        GenomeData(tokenizer_path=str(tmp_path / "absent")).tokenizer()
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(UserError, match=r"data.tokenizer_path is .NOWHERE/x; set that"):
        GenomeData(tokenizer_path="$NOWHERE/x").tokenizer()
