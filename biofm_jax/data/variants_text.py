"""Variants as people write them: `A123T`, several joined, and HGVS's protein nomenclature.

HGVS (den Dunnen et al. 2016, doi 10.1002/humu.22981; hgvs-nomenclature.org): `p.Ala123Thr`,
`NP_000537.3:p.(Arg175His)`, `p.R175H`, `p.(Cys188=)` and `p.=` (nothing changed), and
`p.[Ser44Arg;Trp46Arg]` (one protein with both).
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from biofm_jax.data.bad_records import BadText

THREE_LETTERS = {
    **{"Ala": "A", "Arg": "R", "Asn": "N", "Asp": "D", "Cys": "C", "Gln": "Q", "Glu": "E"},
    **{"Gly": "G", "His": "H", "Ile": "I", "Leu": "L", "Lys": "K", "Met": "M", "Phe": "F"},
    **{"Pro": "P", "Ser": "S", "Thr": "T", "Trp": "W", "Tyr": "Y", "Val": "V"},
    **{"Asx": "B", "Glx": "Z", "Sec": "U", "Pyl": "O", "Xaa": "X", "Ter": "*"},
}
UNCHANGED = ("WT", "wt", "=", "p.=", "p.(=)")
FIX = "write A123T, several as A123T:G124S, HGVS as p.Ala123Thr, the wild type as WT"

_ONE = re.compile(r"([A-Z*])(\d+)([A-Z*=])")
_RESIDUE = "|".join(THREE_LETTERS)
_HGVS = re.compile(rf"({_RESIDUE}|[A-Z*])(\d+)({_RESIDUE}|[A-Z*=])")
_PREFIX = re.compile(r"(?:[A-Za-z0-9][\w.|/-]*(?:\([\w.-]+\))?:)?p\.")
# What HGVS can say of a protein that is no substitution; the first that is found names it.
_OTHER = (
    (re.compile(r"\][;,]\["), "two alleles of a person: two proteins, not one"),
    (re.compile(r"\(;\)|,"), "changes of which it is not known whether one protein has both"),
    (re.compile(r"fs"), "a frameshift, which replaces all that follows"),
    (re.compile(r"ext"), "an extension of the protein"),
    (re.compile(r"delins"), "a deletion with insertion"),
    (re.compile(r"del"), "a deletion"),
    (re.compile(r"dup"), "a duplication"),
    (re.compile(r"ins"), "an insertion"),
    (re.compile(r"\?"), "an unknown effect"),
    (re.compile(r"^\(?0\)?$"), "no protein"),
)


class NotSubstitution(ValueError):
    """A variant that can be read but is no exchange of residues; the text is the reason."""


@dataclasses.dataclass(frozen=True)
class Substitution:
    """One residue for another.

    Attributes:
        wild: the residue that stands there.
        number: of the residue, as the source counts.
        mutant: the residue instead; equal to `wild` where nothing changes.
    """

    wild: str
    number: int
    mutant: str

    def __str__(self) -> str:
        return f"{self.wild}{self.number}{self.mutant}"


def parse_variant(text: str) -> tuple[Substitution, ...]:
    """The substitutions of a variant, in the order of the text; none for the wild type.

    Args:
        text: in capitals; see the module. Without `p.` several are joined by `:` or `,`.

    Raises:
        NotSubstitution: a stop, frameshift, insertion, deletion, or an effect that is not known.
        BadText: anything else.
    """
    text = text.strip()
    if text in UNCHANGED:
        return ()
    prefix = _PREFIX.match(text)
    if prefix is None:
        return tuple(_substitution(part, _ONE) for part in re.split("[:,]", text))
    body = text[prefix.end() :]
    for pattern, meaning in _OTHER:
        if pattern.search(body):
            raise NotSubstitution(meaning)
    parts = re.sub(r"[()\[\]]", "", body).split(";")
    if parts == ["="]:
        return ()
    return tuple(_substitution(part, _HGVS) for part in parts)


def _substitution(part: str, pattern: re.Pattern) -> Substitution:
    found = pattern.fullmatch(part.strip())
    if found is None:
        raise BadText(f"{part.strip()!r} is no substitution", FIX)
    wild, number, mutant = found.groups()
    wild, mutant = THREE_LETTERS.get(wild, wild), THREE_LETTERS.get(mutant, mutant)
    mutant = wild if mutant == "=" else mutant
    if "*" in (wild, mutant):
        raise NotSubstitution("a stop gained" if wild != "*" else "the stop lost")
    return Substitution(wild, int(number), mutant)


def mutate(wild_type: str, substitutions: Iterable[Substitution], first: int = 1) -> str:
    """The wild type with some residues exchanged.

    Args:
        wild_type: letters.
        substitutions: each at another residue.
        first: number of the wild type's first letter.

    Raises:
        BadText: another residue stands there, there is none of that number, or one is named
            twice.
    """
    letters = list(wild_type)
    named: set[int] = set()
    for each in substitutions:
        place = each.number - first
        if not 0 <= place < len(letters):
            last = first + len(letters) - 1
            raise BadText(f"{each}: residues are numbered {first} to {last}", "see --first")
        if place in named:
            raise BadText(f"residue {each.number} is named twice", "keep one of them")
        if wild_type[place] != each.wild:
            raise BadText(
                f"{each}: residue {each.number} is {wild_type[place]}, not {each.wild}",
                "see --first, or give the wild type of these variants",
            )
        named.add(place)
        letters[place] = each.mutant
    return "".join(letters)


def fitting_first(variants: Iterable[Sequence[Substitution]], wild_type: str) -> list[int]:
    """All numbers of the first letter with which every substitution fits, ascending.

    Args:
        variants: of one wild type.
        wild_type: letters.
    """
    places: dict[str, list[int]] = {}
    for place, letter in enumerate(wild_type):
        places.setdefault(letter, []).append(place)
    fitting: set[int] | None = None
    for wild, number in {(each.wild, each.number) for variant in variants for each in variant}:
        here = {number - place for place in places.get(wild, ())}
        fitting = here if fitting is None else fitting & here
        if not fitting:
            break
    return sorted(fitting or ())
