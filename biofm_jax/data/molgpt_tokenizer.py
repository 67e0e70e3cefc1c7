"""MolGPT's tokens of SMILES, from the list that its authors publish beside the code.

Source: Bagal et al. 2022, doi 10.1021/acs.jcim.1c00600; `moses2_stoi.json` and
`guacamol2_stoi.json` of github.com/devalab/molgpt. Bracket atoms, two-letter elements and ring
closures of two digits are one token each; "<" fills a molecule up, so that it also ends one.
"""

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np

from biofm_jax.data.special_tokens import read_json
from biofm_jax.data.tokenizers import Vocabulary, digest, frame, id_dtype, join_tokens
from biofm_jax.errors import UserError

END = "<"
_TOKEN = re.compile(r"\[[^\]]+\]|%\d\d|Br|Cl|[\s\S]")


@dataclasses.dataclass(frozen=True)
class MolGptTokenizer:
    """One token per atom, bond, branch or ring closure; there is none for what is unknown.

    Attributes:
        vocabulary: of the published list; `END` is its pad and eos.
    """

    vocabulary: Vocabulary

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {self.vocabulary.tokens[i]: i for i in self.vocabulary.regular}

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, `END` behind it.

        Raises:
            UserError: a token that the list lacks.
        """
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets.

        Raises:
            UserError: a token that the list lacks.
        """
        cut = [_TOKEN.findall(text) for text in texts]
        for tokens, text in zip(cut, texts, strict=True):
            if unknown := [token for token in tokens if token not in self._ids]:
                raise UserError(
                    f"{text[:60]!r}: {unknown[0]!r} is none of MolGPT's {self.vocabulary.size} "
                    "tokens; leave the molecule out"
                )
        ids = [self._ids[token] for tokens in cut for token in tokens]
        offsets = np.cumsum([0, *map(len, cut)])
        return frame(np.array(ids, id_dtype(self.vocabulary.size)), offsets, self.vocabulary)

    def decode(self, ids: np.ndarray) -> str:
        """The SMILES of ids, `END` left out."""
        return join_tokens(ids, self.vocabulary)

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["molgpt", self.vocabulary.fingerprint()])


def read_molgpt(path: Path) -> MolGptTokenizer:
    """The tokenizer of a published list, a JSON object of ids by token.

    Raises:
        UserError: no such list.
    """
    ids = read_json(path)
    if sorted(ids.values(), key=str) != sorted(range(len(ids)), key=str) or END not in ids:
        raise UserError(f"{path}: no list of MolGPT's tokens by id, {END!r} among them")
    tokens = tuple(sorted(ids, key=ids.__getitem__))
    return MolGptTokenizer(Vocabulary.of(tokens, {"pad": END, "eos": END}, {END}))
