"""What generated sequences are worth, by modality: valid, unique, novel, and like the known ones.

Valid is a share of all sequences, unique one of the valid, novel one of the unique (as in GuacaMol,
Brown et al. 2019, J Chem Inf Model 59:1096).
"""

import dataclasses
import random
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.evaluate.validity_molecules import molecule_report
from biofm_jax.evaluate.validity_proteins import protein_report

REPORTS = {
    "molecule": molecule_report,
    "protein": lambda valid, known: (protein_report(valid, known), None),
}
# Known texts, drawn at random, whose properties stand beside those of the generated ones; of
# molecules most of them only lend their fragments.
COMPARED = {"molecule": 10_000, "protein": 1000}

Clean = Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class Judged:
    """What generated texts are worth.

    Attributes:
        report: figures by name.
        picture: a PNG of how their properties are distributed; None of other modalities.
    """

    report: dict
    picture: bytes | None = None


def judge(kind: str, texts: Sequence[str], clean: Clean, known: Iterable[str] | None) -> Judged:
    """Count and measure generated texts.

    Args:
        kind: the modality, as `SequenceData.kind`.
        texts: n generated texts.
        clean: a text in the form that the known ones have; raises `BadText` for one that is not
            valid in its modality.
        known: texts that are not novel, cleaned already; None: novelty is not told. They are read
            once, and some of them kept.

    Returns:
        Counts and shares (each None where nothing can be told) and, for molecules and proteins,
        their properties, beside those of known texts.

    Raises:
        UserError: molecules without rdkit.
    """
    valid = [text for text in map(lambda text: _cleaned(text, clean), texts) if text is not None]
    unique = list(dict.fromkeys(valid))
    novel, sample = None, []
    if known is not None:
        left = set(unique)
        sample = _sample(known, COMPARED.get(kind, 0), left.discard)
        novel = len(left)
    report = {
        "sequences": len(texts),
        "valid": len(valid),
        "unique": len(unique),
        "novel": novel,
        "valid_share": _share(len(valid), len(texts)),
        "unique_share": _share(len(unique), len(valid)),
        "novel_share": None if novel is None else _share(novel, len(unique)),
        "letters_mean": float(np.mean([len(text) for text in valid])) if valid else None,
    }
    if kind not in REPORTS:
        return Judged(report)
    more, picture = REPORTS[kind](valid, sample)
    return Judged(report | more, picture)


def _sample(texts: Iterable[str], size: int, see: Callable[[str], None]) -> list[str]:
    """At most `size` texts, each as likely as any other, in random order; `see` gets all."""
    draw, kept = random.Random(0), []
    for number, text in enumerate(texts):
        see(text)
        if len(kept) < size:
            kept.append(text)
        elif (place := draw.randrange(number + 1)) < size:  # Vitter's algorithm R
            kept[place] = text
    draw.shuffle(kept)
    return kept


def _cleaned(text: str, clean: Clean) -> str | None:
    try:
        return clean(text)
    except BadText:
        return None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
