"""In-silico mutagenesis: what every single substitution does to a score."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.errors import UserError


def single_substitutions(text: str, alphabet: str) -> list[str]:
    """Every substitution of one letter: place by place, letter by letter, the own letter too.

    Args:
        text: t letters.
        alphabet: a letters.

    Returns:
        t * a texts of the length of `text`.
    """
    return [
        text[:place] + letter + text[place + 1 :]
        for place in range(len(text))
        for letter in alphabet
    ]


def mutagenesis(
    score: Callable[[Sequence[str]], np.ndarray], text: str, alphabet: str
) -> Float[np.ndarray, "t a"]:
    """The change of a score by each substitution.

    Args:
        score: n texts -> (n,) scores, of a model without labels or of a fitted one.
        text: the wild type, t letters.
        alphabet: a letters, as the tokenizer writes them.

    Returns:
        (t, a) score of the mutant minus that of the wild type; exactly 0 for its own letter.

    Raises:
        UserError: a letter of the text is not in the alphabet, or a score is not finite.
    """
    if unknown := sorted(set(text) - set(alphabet)):
        raise UserError(f"{''.join(unknown)} in the sequence is not of the alphabet {alphabet}")
    mutants = single_substitutions(text, alphabet)
    scores = np.asarray(score([text, *mutants]), np.float64)
    if not np.isfinite(scores).all():
        place = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise UserError(f"the score of {[text, *mutants][place][:60]} is not finite")
    changes = (scores[1:] - scores[0]).reshape(len(text), len(alphabet))
    own = [alphabet.index(letter) for letter in text]
    changes[np.arange(len(text)), own] = 0.0
    return changes
