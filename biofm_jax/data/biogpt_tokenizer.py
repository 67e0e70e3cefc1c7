"""BioGPT's tokenizer: Moses words, then BPE with an end-of-word mark."""

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders

from biofm_jax.data.special_tokens import SpecialTokens, read_json, read_text
from biofm_jax.data.text_families import read_bpe
from biofm_jax.data.text_tokenizer import TextTokenizer, finish
from biofm_jax.data.tokenizers import Vocabulary, digest, id_dtype
from biofm_jax.errors import UserError

DEFAULTS = {
    "unk": ("<unk>",), "bos": ("<s>",), "eos": ("</s>",), "sep": ("</s>",), "pad": ("<pad>",)
}  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class BioGptTokenizer:
    """Words by the Moses rules for English, their pieces by BPE, </s> before a text.

    Attributes:
        pieces: cuts words, given between spaces.
    """

    pieces: TextTokenizer

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """All tokens by id; `cls` is </s>, which also ends a text that was generated."""
        found = self.pieces.vocabulary
        end = found.tokens.index(self.pieces.named["sep"])
        return dataclasses.replace(found, cls=end, eos=end)

    @functools.cached_property
    def _words(self):
        try:
            from sacremoses import MosesTokenizer
        except ImportError as error:
            raise UserError(
                "BioGPT's tokenizer needs sacremoses: pip install 'biofm_jax[notes]'"
            ) from error
        return MosesTokenizer(lang="en")

    @functools.cached_property
    def _specials(self) -> re.Pattern:
        added = self.pieces.backend.get_added_tokens_decoder().values()
        texts = sorted((token.content for token in added), key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, texts)) + ")")

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, </s> first."""
        found = [self.vocabulary.cls]
        for number, part in enumerate(self._specials.split(text)):
            if number % 2:
                found.append(self.pieces.backend.token_to_id(part))
            elif part:
                words = self._words.tokenize(part, aggressive_dash_splits=True, escape=True)
                words = [word for word in words if word]
                if words:
                    found += self.pieces.backend.encode(
                        words, is_pretokenized=True, add_special_tokens=False
                    ).ids
        return np.array(found, np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        found = [self.encode(text) for text in texts]
        offsets = np.cumsum([0, *map(len, found)])
        flat = np.concatenate([np.zeros(0, np.int32), *found])
        return flat.astype(id_dtype(self.vocabulary.size)), offsets

    def decode(self, ids: np.ndarray) -> str:
        """The words of ids between spaces, specials left out; Moses' escapes stay."""
        special, tokens = set(self.vocabulary.special), self.vocabulary.tokens
        kept = (tokens[i] for i in np.asarray(ids).tolist() if i not in special)
        return "".join(kept).replace("</w>", " ").strip()

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["biogpt", self.pieces.fingerprint()])


def read_biogpt(vocabulary: Path, merges: Path, specials: SpecialTokens) -> BioGptTokenizer:
    """BioGPT's `vocab.json` and `merges.txt` (pairs with their counts).

    Raises:
        UserError: the files do not fit each other, or there is no </s>.
    """
    ids = read_json(vocabulary)
    if "</s>" not in ids or "<unk>" not in ids:
        raise UserError(f"{vocabulary}: no </s> or <unk> among its tokens; is it BioGPT's?")
    pairs = [tuple(line.split()[:2]) for line in read_text(merges).split("\n")[:-1]]
    backend = Tokenizer(
        read_bpe(vocabulary, merges, ids, pairs, unk_token="<unk>", end_of_word_suffix="</w>")
    )
    backend.decoder = decoders.BPEDecoder("</w>")
    return BioGptTokenizer(finish(backend, specials, DEFAULTS))
