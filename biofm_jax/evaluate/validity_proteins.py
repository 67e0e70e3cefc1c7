"""Lengths, composition and repeats of generated proteins."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# Percent of residues in UniProtKB/Swiss-Prot (release statistics of 2023, table of amino acids).
SWISS_PROT = dict(
    zip(
        RESIDUES,
        (8.25, 1.38, 5.46, 6.72, 3.86, 7.07, 2.27, 5.91, 5.80, 9.65)
        + (2.41, 4.06, 4.74, 3.93, 5.53, 6.65, 5.36, 6.86, 1.10, 2.92),
        strict=True,
    )
)
RUN = 5  # of one residue in a row make a repeat
QUANTILES = (0.05, 0.5, 0.95)


def protein_report(valid: Sequence[str], known: Sequence[str]) -> dict:
    """Lengths, composition and repeats of valid proteins and, as `known_*`, of known ones.

    The divergence of composition is Kullback-Leibler's, in bits a residue, of the 20 residues'
    shares from those of Swiss-Prot: 0 for the same. `repeat_share` is that of proteins in which a
    residue stands five times in a row; `trimers_distinct` the mean over proteins of different
    trimers over all trimers, 1 where none recurs.

    Args:
        valid: sequences.
        known: sequences to compare with; none: no such figures.
    """
    report = {}
    for prefix, texts in (("", valid), ("known_", known)):
        if texts:
            report |= {f"{prefix}{name}": value for name, value in _figures(texts).items()}
    return report


def _figures(texts: Sequence[str]) -> dict[str, float]:
    lengths = np.array([len(text) for text in texts])
    low, middle, high = np.quantile(lengths, QUANTILES).tolist()
    counts = Counter("".join(texts))
    return {
        "length_q05": low,
        "length_median": middle,
        "length_q95": high,
        "composition_bits": divergence_bits(counts),
        "other_residues_share": 1 - sum(counts[r] for r in RESIDUES) / max(1, lengths.sum()),
        "repeat_share": float(np.mean([longest_run(text) >= RUN for text in texts])),
        "trimers_distinct": float(np.mean([distinct_trimers(text) for text in texts])),
    }


def divergence_bits(counts: dict[str, int]) -> float | None:
    """Bits a residue by which a composition differs from Swiss-Prot's; None without residues."""
    share = np.array([counts.get(r, 0) for r in RESIDUES], np.float64)
    if not share.sum():
        return None
    share /= share.sum()
    expected = np.array([SWISS_PROT[r] for r in RESIDUES])
    there = share > 0
    return float((share * np.log2(np.where(there, share, 1) * expected.sum() / expected)).sum())


def longest_run(text: str) -> int:
    """Most times that one letter stands in a row."""
    longest, run = 0, 0
    for before, letter in zip(" " + text, text):
        run = run + 1 if letter == before else 1
        longest = max(longest, run)
    return longest


def distinct_trimers(text: str) -> float:
    """Different trimers over all trimers; 1 for fewer than three letters."""
    trimers = [text[i : i + 3] for i in range(len(text) - 2)]
    return len(set(trimers)) / len(trimers) if trimers else 1.0
