"""SigLIP's tokenizer: unigram pieces of small letters without punctuation (arXiv:2303.15343)."""

import dataclasses
import re
import string
from pathlib import Path

from tokenizers import Regex, normalizers

from biofm_jax.data.sentencepiece_model import read_sentencepiece
from biofm_jax.data.sentencepiece_text import unigram
from biofm_jax.data.special_tokens import SpecialTokens
from biofm_jax.data.text_tokenizer import TextTokenizer
from biofm_jax.errors import UserError


def read_siglip(path: Path, specials: SpecialTokens) -> TextTokenizer:
    """The tokenizer of `spiece.model`: T5's without sentinels, behind big_vision's cleaning.

    ASCII punctuation is taken out, white space is one space, and letters become small where
    `do_lower_case` of the configuration (default: true) says so.

    Raises:
        UserError: the file is damaged, or lacks the end-of-text token.
    """
    bare = dataclasses.replace(specials, config={**specials.config, "extra_ids": 0})
    made = unigram(path, read_sentencepiece(path), bare)
    if made is None:
        raise UserError(f"{path}: no </s> among its pieces; is it SigLIP's?")
    lower = [normalizers.Lowercase()] * bool(specials.config.get("do_lower_case", True))
    cleaned = [
        *lower,
        normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    own = made.backend.normalizer
    made.backend.normalizer = normalizers.Sequence(cleaned + ([] if own is None else [own]))
    return made
