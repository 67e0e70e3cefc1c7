"""Which tokens of a text belong to one word."""

import numpy as np

from biofm_jax.data.tokenizers import Vocabulary

BLANKS = {f"{ord(blank):02x}" for blank in " \t\n\r"}  # as bytes are named
MARKS = ("Ġ", "▁")  # before the first piece of a word, of byte-level BPE and of SentencePiece


def word_pieces(vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """How the tokens of a vocabulary make words.

    Bytes make a word up to the next blank. Pieces of WordPiece begin one unless they start with
    `##`, those of byte-level BPE and of SentencePiece where their mark of a blank stands in front.

    Args:
        vocabulary: of a text's tokenizer.

    Returns:
        inside (v,) bool, tokens that are part of a word, and begins (v,) bool, those among them
        that begin a new one whatever is in front.
    """
    tokens = vocabulary.tokens
    inside = np.zeros(len(tokens), bool)
    inside[list(vocabulary.regular)] = True
    regular = [tokens[i] for i in vocabulary.regular]
    if set(regular) >= BLANKS and all(len(token) == 2 for token in regular):
        return inside & ~np.isin(tokens, sorted(BLANKS)), np.zeros(len(tokens), bool)
    for mark in MARKS:
        if any(token.startswith(mark) for token in regular):
            return inside, inside & np.array([token.startswith(mark) for token in tokens])
    return inside, inside & ~np.array([token.startswith("##") for token in tokens])
