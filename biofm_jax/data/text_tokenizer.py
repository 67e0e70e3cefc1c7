"""Published WordPiece, BPE and Unigram tokenizers, run by the `tokenizers` library."""

import dataclasses
import functools
import itertools
from collections.abc import Collection, Mapping

import numpy as np
import tokenizers

from biofm_jax.data.special_tokens import NAMES, USUAL, Added, SpecialTokens
from biofm_jax.data.tokenizers import ROLES, Vocabulary, digest, id_dtype
from biofm_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class TextTokenizer:
    """A `tokenizers.Tokenizer` with the roles of its special tokens.

    Attributes:
        backend: cuts text and adds the tokens that frame it; never truncates or pads.
        named: the token of each of "bos", "eos", "unk", "sep", "pad", "cls", "mask" there is.
    """

    backend: tokenizers.Tokenizer
    named: Mapping[str, str]

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """All tokens by id.

        `cls` and `eos` are what the tokenizer puts before and behind a text; where it puts
        nothing, `eos` is the published end-of-text token and `cls` is -1. `pad` is `eos`, else
        id 0, where none was published (GPT-2): padding is masked, but needs an id. Ids without a
        token are named `<no token N>` and are not regular, as special tokens are not.
        """
        ids = self.backend.get_vocab(with_added_tokens=True)
        tokens = [f"<no token {i}>" for i in range(max(ids.values()) + 1)]
        special = set(tokens) | set(self.named.values())
        for token, i in ids.items():
            tokens[i] = token
        added = self.backend.get_added_tokens_decoder().values()
        special |= {token.content for token in added if token.special}
        roles = {role: self.named[role] for role in ROLES if role in self.named}
        before, after = self._frame
        roles["cls"] = tokens[before[0]] if before else ""
        if after:
            roles["eos"] = tokens[after[-1]]
        roles.setdefault("pad", roles.get("eos", tokens[0]))
        return Vocabulary.of(tuple(tokens), roles, special)

    @functools.cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Ids put before and behind a text."""
        bare: list[int] = []
        for probe in ("A", "a", "1", *self.backend.get_vocab(with_added_tokens=False)):
            bare = self.backend.encode(probe, add_special_tokens=False).ids
            if bare:  # a byte-level BPE drops characters that it has no token for
                break
        framed = self.backend.encode(probe).ids
        at = next(i for i in range(len(framed) + 1) if framed[i : i + len(bare)] == bare)
        return framed[:at], framed[at + len(bare) :]

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, with cls and eos where the published tokenizer has them."""
        return np.array(self.backend.encode(text).ids, np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        found = [one.ids for one in self.backend.encode_batch_fast(texts)]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        dtype = id_dtype(self.vocabulary.size)
        return np.fromiter(itertools.chain.from_iterable(found), dtype, offsets[-1]), offsets

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, specials left out."""
        known = np.asarray(ids).tolist()
        return self.backend.decode(known, skip_special_tokens=True)

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        return digest(["text", self.backend.to_str(), dict(sorted(self.named.items()))])


def finish(
    backend: tokenizers.Tokenizer,
    specials: SpecialTokens,
    defaults: Mapping[str, Collection[str]] = USUAL,
) -> TextTokenizer:
    """A tokenizer with its special tokens: those that the files name, else the family's.

    A default that the vocabulary lacks is left out, where transformers would give it an id behind
    the rows of the embedding; a token that a file names is added, as there.

    Args:
        backend: model, normalizer, pre-tokenizer and decoder.
        specials: what the files say.
        defaults: what the family calls each role.

    Raises:
        UserError: an added token's id is not the next one behind the vocabulary.
    """
    ids = backend.get_vocab(with_added_tokens=True)
    found = {name: specials.name(name, defaults.get(name, ()), ids) for name in NAMES}
    named = {name: token for name, token in found.items() if token is not None}
    listed = {token.text: token for token in specials.added}
    plain = {"special": True, "normalized": False}
    # Those with an id of their own first, in order, so that each gets it.
    tokens = list(listed.values())
    tokens += [Added(t, -1, plain) for t in dict.fromkeys(named.values()) if t not in listed]
    have = backend.get_added_tokens_decoder()
    for token in tokens:
        old = next((a for a in have.values() if a.content == token.text), None)
        if old is None or (token.options.get("special") and not old.special):
            made = tokenizers.AddedToken(token.text, **token.options)
            if token.options.get("special"):
                backend.add_special_tokens([made])
            else:
                backend.add_tokens([made])
        got = backend.token_to_id(token.text)
        if token.id not in (-1, got):
            raise UserError(
                f"the added token {token.text!r} has id {token.id} in its file, but {got} after "
                f"the {len(ids)} tokens of the vocabulary; do the files belong together?"
            )
    backend.no_truncation()
    backend.no_padding()
    return TextTokenizer(backend, named)
