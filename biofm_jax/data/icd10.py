"""Codes of ICD-10-CM and their ancestors, read from the text of the code."""

import bisect
import dataclasses
import re
from collections.abc import Iterable
from functools import cached_property

import numpy as np
from jaxtyping import Int32

from biofm_jax.data.bad_records import BadText

# First code of each chapter (ICD-10-CM, tabular list): the chapter goes on to the next one.
CHAPTERS = (("A00", "I"), ("C00", "II"), ("D50", "III"), ("E00", "IV"), ("F01", "V"),
            ("G00", "VI"), ("H00", "VII"), ("H60", "VIII"), ("I00", "IX"), ("J00", "X"),
            ("K00", "XI"), ("L00", "XII"), ("M00", "XIII"), ("N00", "XIV"), ("O00", "XV"),
            ("P00", "XVI"), ("Q00", "XVII"), ("R00", "XVIII"), ("S00", "XIX"), ("U00", "XXII"),
            ("V00", "XX"), ("Z00", "XXI"))  # fmt: skip
DEPTH = 7  # chapter, ten categories, category, and up to four characters behind the point
_CODE = re.compile(r"([A-Z][0-9][0-9A-Z])(?:\.?([0-9A-Z]{1,4}))?")


def clean_code(text: str) -> str:
    """A code as `C34`, `C34.2` or `S33.110S`: upper case, with its point.

    Raises:
        BadText: the text is no code of ICD-10.
    """
    found = _CODE.fullmatch(text.strip().upper())
    if found is None:
        raise BadText(
            f"{text[:40]!r} is no ICD-10 code",
            "write a letter, two characters, a point and up to four more, as C34.2, or remove it",
        )
    category, rest = found.groups()
    return f"{category}.{rest}" if rest else category


def ancestors(code: str) -> tuple[str, ...]:
    """A code and what stands above it, the nearest first: at most `DEPTH` names.

    Subcategories, the category (three characters), its ten (`C3-`: the first two characters; the
    published blocks have other bounds), the chapter.

    Args:
        code: as `clean_code` writes it.
    """
    category, _, rest = code.partition(".")
    path = [f"{category}.{rest[:length]}" for length in range(len(rest), 0, -1)]
    place = bisect.bisect_right([first for first, _ in CHAPTERS], category) - 1
    return (*path, category, f"{category[:2]}-", f"chapter {CHAPTERS[max(place, 0)][1]}")


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """The codes that a model knows, and all their ancestors.

    Attributes:
        nodes: names in alphabetical order.
    """

    nodes: tuple[str, ...]

    @classmethod
    def of(cls, codes: Iterable[str]) -> "Hierarchy":
        """The hierarchy above some codes, such as those of the training trials."""
        return cls(tuple(sorted({name for code in codes for name in ancestors(code)})))

    @cached_property
    def index(self) -> dict[str, int]:
        """Name -> number."""
        return {name: number for number, name in enumerate(self.nodes)}

    def path(self, code: str) -> Int32[np.ndarray, " l"]:
        """(DEPTH,) numbers of a code and its ancestors, the nearest first, then -1.

        A code that is not known stands for its nearest known ancestor; where not even the chapter
        is known, all are -1.
        """
        known = [self.index[name] for name in ancestors(code) if name in self.index]
        return np.array(known + [-1] * (DEPTH - len(known)), np.int32)
