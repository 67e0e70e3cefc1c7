"""ROUGE: overlap of a generated text with a reference (Lin 2004)."""

import re
from collections import Counter
from typing import Literal

from biofm_jax.errors import UserError

RougeKind = Literal["1", "2", "L"]


def rouge_words(text: str) -> list[str]:
    """Words as the `rouge-score` package splits them without a stemmer.

    Lower case; every run of anything but a-z and 0-9 separates, Greek letters too.
    """
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def rouge(reference: str, candidate: str, kind: RougeKind) -> tuple[float, float, float]:
    """Overlap of one candidate with one reference.

    ROUGE-1 and -2 count shared words and pairs of neighbouring words, each at most as often as
    in the rarer text; ROUGE-L is the longest common subsequence of words over the whole text.
    No stemming. A text without words scores 0.

    Args:
        reference: what a person wrote.
        candidate: what the model wrote.
        kind: "1", "2" or "L".

    Returns:
        Precision, recall and F1.

    Raises:
        UserError: another kind.
    """
    true, said = rouge_words(reference), rouge_words(candidate)
    if kind == "L":
        shared, of_true, of_said = _longest_common_subsequence(true, said), len(true), len(said)
    elif kind in ("1", "2"):
        one, two = (_runs(words, int(kind)) for words in (true, said))
        shared, of_true, of_said = (one & two).total(), one.total(), two.total()
    else:
        raise UserError(f'there is no ROUGE-{kind}: use "1", "2" or "L"')
    if not shared:
        return 0.0, 0.0, 0.0
    precision, recall = shared / of_said, shared / of_true
    return precision, recall, 2 * precision * recall / (precision + recall)


def _runs(words: list[str], length: int) -> Counter:
    return Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))


def _longest_common_subsequence(one: list[str], two: list[str]) -> int:
    """Its length, one column of the table at a time as the bits of an integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(one)) - 1
    column = everything
    for word in two:
        hits = column & places.get(word, 0)
        column = ((column + hits) | (column - hits)) & everything
    return len(one) - column.bit_count()
