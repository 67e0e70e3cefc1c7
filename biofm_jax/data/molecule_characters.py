"""Molecules as the characters of their SMILES: the plain alternative to atom-level tokens."""

import dataclasses
import functools

from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.smiles import BRACKETS, PIECES, PLAIN
from biofm_jax.data.tokenizers import SPECIALS, CharacterTokenizer, Vocabulary


@dataclasses.dataclass(frozen=True)
class CharacterMoleculeData(MoleculeData):
    """Molecules as canonical SMILES, one token per character."""

    def own_tokenizer(self) -> CharacterTokenizer:
        """See `smiles_characters`."""
        return smiles_characters()


@functools.cache
def smiles_characters() -> CharacterTokenizer:
    """Every character of OpenSMILES, cls before and eos behind each molecule.

    The characters are those of the atom-level tokens, with digits and `%` for ring closures; a
    constant, as the atom-level vocabulary is.
    """
    characters = sorted(set("".join((PLAIN, BRACKETS, PIECES, "%"))) - {" ", "\n"})
    return CharacterTokenizer(Vocabulary.of(SPECIALS + tuple(characters)), cased=True)
