"""Properties as tokens before a SMILES: what a next-token model is asked for.

A conditional language model in the way of CTRL (Keskar et al. 2019, arXiv:1909.05858): a control
token stands between cls and the sequence. MolGPT (Bagal et al. 2022, doi 10.1021/acs.jcim.1c00600)
adds a projection of the number instead; a bin needs no new layer, and every model that reads tokens
can have it.
"""

import dataclasses
import functools
import re

import numpy as np

from biofm_jax.data.chemistry import rdkit_chem
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.smiles import SmilesTokenizer
from biofm_jax.data.token_store import text_hash
from biofm_jax.data.tokenizers import Vocabulary, digest, id_dtype, join_tokens
from biofm_jax.errors import UserError

# Lowest and highest edge, and the width of a bin. Values beyond belong to the first or last bin.
BINS = {
    "logp": (-3.0, 8.0, 0.5),  # Crippen's octanol/water estimate
    "qed": (0.0, 1.0, 0.05),  # drug-likeness, 0 to 1
    "weight": (50.0, 800.0, 25.0),  # g/mol
    "tpsa": (0.0, 250.0, 10.0),  # square angstrom
}
UNASKED = 10  # every so manieth molecule has no condition, so that the model can do without
PREFIX = re.compile(r"<([a-z]+)=([^<>]*)>")


@dataclasses.dataclass(frozen=True)
class ConditionedSmiles:
    """SMILES tokens behind one token for each property.

    A text may begin with conditions, `<logp=2.5><qed=any>CCO`, in any order; a property that it
    does not name is computed by rdkit, and is `any` where rdkit cannot read the rest (a beginning
    of a SMILES), and for a tenth of all molecules, by hash of the text.

    Attributes:
        properties: keys of `BINS`, in the order of their tokens.
    """

    properties: tuple[str, ...]

    @property
    def vocabulary(self) -> Vocabulary:
        """The SMILES vocabulary, then special tokens: all bins of the properties."""
        return _vocabulary(self.properties)

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids: cls, conditions, SMILES, eos.

        Raises:
            UserError: a condition that is none, or on a property the tokenizer does not have.
        """
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        rows = [self._read(text) for text in texts]
        ids, offsets = SmilesTokenizer().encode_many([rest for rest, _ in rows])
        width = len(self.properties)
        codes = np.array([codes for _, codes in rows], np.int64).reshape(-1)
        first = np.repeat(offsets[:-1] + 1, width)  # behind cls
        wide = ids.astype(id_dtype(self.vocabulary.size))
        return np.insert(wide, first, codes), offsets + width * np.arange(len(offsets))

    def decode(self, ids: np.ndarray) -> str:
        """The SMILES of ids, without conditions."""
        return join_tokens(ids, self.vocabulary)

    def conditions(self, ids: np.ndarray) -> dict[str, float]:
        """The middle of each bin that stands in ids, by property; those without a condition not."""
        found = {}
        for token in (self.vocabulary.tokens[i] for i in np.asarray(ids).tolist()):
            name, _, value = token.strip("<>").partition("=")
            if name in self.properties and value != "any":
                found[name] = float(value)
        return found

    def beginning(self, text: str) -> str:
        """A prompt with `any` for each property that it does not name: CC is no ethane yet."""
        named = set(re.findall(r"<([a-z]+)=", text))
        return "".join(f"<{name}=any>" for name in self.properties if name not in named) + text

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["conditioned", self.properties, UNASKED, self.vocabulary.fingerprint()])

    def _read(self, text: str) -> tuple[str, list[int]]:
        """The SMILES of a text, and the ids of its conditions."""
        given: dict[str, str] = {}
        while found := PREFIX.match(text):
            given[found[1]] = found[2]
            text = text[found.end() :]
        if unknown := sorted(given.keys() - set(self.properties)):
            raise UserError(
                f"no condition <{unknown[0]}=...>: this model knows {', '.join(self.properties)}"
            )
        values = {}
        missing = [name for name in self.properties if name not in given]
        if missing and text_hash(text) % UNASKED:
            values = properties(text, missing)
        ids = _bin_ids(self.properties)
        codes = []
        for name in self.properties:
            value = _asked(name, given[name]) if name in given else values.get(name)
            codes.append(ids[name][bin_of(name, value)])
        return text, codes


@dataclasses.dataclass(frozen=True)
class ConditionedMoleculeData(MoleculeData):
    """Molecules as SMILES behind tokens of their properties."""

    conditions: tuple[str, ...] = ("logp",)
    """Properties before a SMILES: logp, qed, weight, tpsa."""

    def __post_init__(self):
        super().__post_init__()
        names = self.conditions
        if not names or len(set(names)) < len(names) or not set(names) <= set(BINS):
            raise UserError(
                f"data.conditions is {' '.join(names) or 'empty'}; give some of {', '.join(BINS)}, "
                "each once"
            )
        if self.tokenizer_path:
            raise UserError("data.tokenizer_path: a published tokenizer has no conditions")

    def own_tokenizer(self) -> ConditionedSmiles:
        """See `ConditionedSmiles`."""
        return ConditionedSmiles(self.conditions)


def properties(text: str, names: list[str]) -> dict[str, float]:
    """Properties of a SMILES by rdkit; none where it cannot be read.

    Args:
        text: the SMILES.
        names: keys of `BINS`, which has their units.
    """
    molecule = rdkit_chem().MolFromSmiles(text)
    if molecule is None or not molecule.GetNumAtoms():
        return {}
    return {name: _computed()[name](molecule) for name in names}


def bin_of(name: str, value: float | None) -> int:
    """The bin of a value, from 1; 0 for None."""
    if value is None:
        return 0
    low, high, width = BINS[name]
    return 1 + int(np.clip((value - low) // width, 0, round((high - low) / width) - 1))


def _asked(name: str, text: str) -> float | None:
    low, high, _ = BINS[name]
    if text == "any":
        return None
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not low <= value <= high:
        raise UserError(f"<{name}={text}>: a number of {low:g} to {high:g}, or any, is wanted")
    return value


@functools.cache
def _computed() -> dict:
    rdkit_chem()
    from rdkit.Chem import QED, Crippen, Descriptors, rdMolDescriptors

    return {
        "logp": Crippen.MolLogP,
        "qed": QED.qed,
        "weight": Descriptors.MolWt,
        "tpsa": rdMolDescriptors.CalcTPSA,
    }


def _tokens(name: str) -> list[str]:
    low, high, width = BINS[name]
    middles = low + width * (np.arange(round((high - low) / width)) + 0.5)
    return [f"<{name}=any>", *(f"<{name}={middle:g}>" for middle in middles)]


@functools.cache
def _vocabulary(names: tuple[str, ...]) -> Vocabulary:
    added = (token for name in names for token in _tokens(name))
    return Vocabulary.of((*SmilesTokenizer().vocabulary.tokens, *added))


@functools.cache
def _bin_ids(names: tuple[str, ...]) -> dict[str, list[int]]:
    ids = {token: number for number, token in enumerate(_vocabulary(names).tokens)}
    return {name: [ids[token] for token in _tokens(name)] for name in names}
