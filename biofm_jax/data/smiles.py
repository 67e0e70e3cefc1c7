"""The SMILES tokenizer: atoms, bonds, branches and rings from a fixed list."""

import dataclasses
import functools
import re

import numpy as np

from biofm_jax.data.tokenizers import SPECIALS, Vocabulary, digest, frame, id_dtype, join_tokens

# Bonds, branches, ring closures and the atoms that need no brackets (OpenSMILES).
PLAIN = r"( ) = # - : / \ . * ~ $ 0 1 2 3 4 5 6 7 8 9 C N O S P F I B Cl Br c n o s p b"
# Bracket atoms of drug-like and bioactive molecules, the frequent ones first.
BRACKETS = """
[C@H] [C@@H] [C@] [C@@] [nH] [O-] [N+] [n+] [NH+] [NH2+] [NH3+] [N-] [S+] [S-] [C-] [c-] [n-]
[o+] [s+] [O+] [P+] [B-] [Si] [se] [Se] [te] [Te] [as] [As] [PH] [SH] [CH2] [CH3] [CH] [C] [c]
[cH-] [N] [NH] [NH2] [n] [nH+] [O] [OH] [OH-] [OH+] [S] [S@] [S@@] [S@+] [S@@+] [P] [P@] [P@@]
[P-] [N@+] [N@@+] [N@H+] [N@@H+] [NH-] [NH4+] [CH-] [CH2-] [SiH] [SiH2] [BH-] [BH2-] [BH3-]
[BH4-] [I+] [IH] [I-] [I] [Br-] [Br] [Cl-] [Cl] [F-] [F] [Cl+3] [H] [H+] [H-] [2H] [3H] [11C]
[13C] [14C] [15N] [18F] [125I] [131I] [Li] [Li+] [Na] [Na+] [K] [K+] [Rb+] [Cs+] [Mg] [Mg+2]
[Ca] [Ca+2] [Sr+2] [Ba+2] [Al] [Al+3] [Zn] [Zn+2] [Fe] [Fe+2] [Fe+3] [Cu] [Cu+] [Cu+2] [Co]
[Co+2] [Co+3] [Ni] [Ni+2] [Mn] [Mn+2] [Ag] [Ag+] [Au] [Au+] [Hg] [Hg+2] [Pt] [Pt+2] [Pt+4] [Pd]
[Pd+2] [Sn] [Sn+2] [Sb] [Bi] [Bi+3] [Ge] [Ga] [Ga+3] [Gd] [Gd+3] [Ti] [V] [Cr] [Mo] [Ru] [Rh] [W]
"""
# What any other bracket atom is spelled with.
PIECES = """
[ ] @ + H D T K V W U Y Li Be Ne Na Mg Al Si Ar Ca Sc Ti Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Kr Rb
Sr Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu
Hf Ta Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa Np Pu Am Cm Bk Cf Es Fm Md No Lr He se
te as
"""
RINGS = range(10, 30)  # ring closures of two digits, %10 to %29; later ones are spelled out


@dataclasses.dataclass(frozen=True)
class SmilesTokenizer:
    """One token per atom, bond, branch or ring closure.

    A bracket atom of the fixed list is one token; any other is spelled out, bracket by element
    by charge, so that every valid SMILES has ids and `decode(encode(s)) == s`. A character
    outside SMILES is <unk>. The vocabulary is a constant: it never depends on the data, and a
    checkpoint of one data set reads another.
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """Specials, plain tokens, ring closures, bracket atoms, pieces."""
        return _vocabulary()

    def encode(self, text: str) -> np.ndarray:
        """(t,) int32 ids of one text, with cls and eos."""
        return self.encode_many([text])[0].astype(np.int32)

    def encode_many(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, smallest uint; (n + 1,) int64 offsets."""
        ids, pattern = _ids(), _pattern()
        line = len(ids)
        unk = self.vocabulary.unk
        joined = "".join(text.replace("\n", " ") + "\n" for text in texts)
        lookup = {**ids, "\n": line}
        found = pattern.findall(joined)
        numbers = np.fromiter((lookup.get(token, unk) for token in found), np.int64, len(found))
        ends = np.flatnonzero(numbers == line)
        offsets = np.concatenate([[0], ends - np.arange(len(ends))])
        flat = numbers[numbers != line].astype(id_dtype(self.vocabulary.size))
        return frame(flat, offsets, self.vocabulary)

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids, specials left out."""
        return join_tokens(ids, self.vocabulary)

    def fingerprint(self) -> str:
        """Hex digits that change when the same text would get other ids."""
        return digest(["smiles", self.vocabulary.fingerprint()])


@functools.cache
def _vocabulary() -> Vocabulary:
    listed = f"{PLAIN} {' '.join(f'%{number}' for number in RINGS)} {BRACKETS} % {PIECES}"
    return Vocabulary.of(SPECIALS + tuple(dict.fromkeys(listed.split())))


@functools.cache
def _ids() -> dict[str, int]:
    vocabulary = _vocabulary()
    return {vocabulary.tokens[i]: i for i in vocabulary.regular}


@functools.cache
def _pattern() -> re.Pattern:
    """Listed bracket atoms whole; inside any other bracket its pieces; else plain tokens.

    `Sc` outside brackets is sulfur and aromatic carbon, inside it is scandium: two-letter
    elements other than Cl and Br count only where no `[` stands between them and their `]`.
    """
    listed = "|".join(re.escape(token) for token in BRACKETS.split())
    elements = "|".join(piece for piece in PIECES.split() if len(piece) == 2)
    return re.compile(rf"{listed}|Br|Cl|(?:{elements})(?=[^\[\]\n]*\])|%[12][0-9]|[\s\S]")
