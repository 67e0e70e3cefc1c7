"""What generated sequences are worth, by modality: valid, unique, novel, and like the known ones.

Valid is a share of all sequences, unique one of the valid, novel one of the unique (as in GuacaMol,
Brown et al. 2019, J Chem Inf Model 59:1096).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from biofm_jax.data.bad_records import BadText
from biofm_jax.evaluate.validity_molecules import molecule_report
from biofm_jax.evaluate.validity_proteins import protein_report

REPORTS = {"molecule": molecule_report, "protein": protein_report}
COMPARED = 1000  # known texts whose properties stand beside those of the generated ones

Clean = Callable[[str], str]


def validity_report(
    kind: str, texts: Sequence[str], clean: Clean, known: Iterable[str] | None
) -> dict:
    """Figures of generated texts, by name.

    Args:
        kind: the modality, as `SequenceData.kind`.
        texts: n generated texts.
        clean: a text in the form that the known ones have; raises `BadText` for one that is not
            valid in its modality.
        known: texts that are not novel, cleaned already; None: novelty is not told. They are read
            once and not kept.

    Returns:
        Counts and shares (each None where nothing can be told) and, for molecules and proteins,
        their properties, beside those of the first known texts.

    Raises:
        UserError: molecules without rdkit.
    """
    valid = [text for text in map(lambda text: _cleaned(text, clean), texts) if text is not None]
    unique = list(dict.fromkeys(valid))
    novel, sample = None, []
    if known is not None:
        left = set(unique)
        for text in known:
            left.discard(text)
            if len(sample) < COMPARED:
                sample.append(text)
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
    if kind in REPORTS:
        report |= REPORTS[kind](valid, sample)
    return report


def _cleaned(text: str, clean: Clean) -> str | None:
    try:
        return clean(text)
    except BadText:
        return None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
