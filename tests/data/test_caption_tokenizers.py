"""The tokenizers of image-text models against transformers' on the captions of VQA-RAD."""

import pytest
import transformers
from published_files import prose
from published_towers import FILES, THEIRS, captions
from test_text_tokenizer import check

from biofm_jax.data.published_tokenizers import load_tokenizer


@pytest.fixture(scope="module")
def texts(biofm_data):
    return captions(biofm_data)


@pytest.mark.parametrize("family", FILES)
def test_ids_of_captions_equal_transformers(family, texts, tmp_path):
    folder = FILES[family](tmp_path / "m", texts[:500])
    theirs = getattr(transformers, THEIRS[family]).from_pretrained(folder)
    ours = load_tokenizer(folder)
    check(theirs, ours, texts + [t for t in prose(500) if family != "siglip" or t.strip()])
