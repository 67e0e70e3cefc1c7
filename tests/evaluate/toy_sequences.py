"""Random sequences with known kin, and their likeness by counted strings."""

from collections import Counter

import numpy as np

from biofm_jax.evaluate.canonical import reverse_complement

AMINO_ACIDS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
BASES = np.array(list("ACGT"))


def draw(rng, length, letters=AMINO_ACIDS) -> str:
    return "".join(letters[rng.integers(0, len(letters), length)])


def mutate(rng, text, share, letters=AMINO_ACIDS) -> str:
    """Each letter replaced by another one with probability `share`."""
    old = np.searchsorted(letters, list(text))
    moved = (old + rng.integers(1, len(letters), len(text))) % len(letters)
    return "".join(letters[np.where(rng.random(len(text)) < share, moved, old)])


def families(rng, count, share=0.1, letters=AMINO_ACIDS) -> tuple[list[str], np.ndarray]:
    """Sequences of random families of 1 to 6 members, shuffled, and the family of each."""
    texts, family = [], []
    for number in range(count):
        root = draw(rng, int(rng.integers(80, 400)), letters)
        for _ in range(rng.integers(1, 7)):
            texts.append(mutate(rng, root, share, letters))
            family.append(number)
    order = rng.permutation(len(texts))
    return [texts[i] for i in order], np.array(family)[order]


def brute_force(a, b, k, both_strands=False):
    """The estimate by counters of strings, without the limit of chance."""

    def counts(text):
        windows = [text[i : i + k] for i in range(len(text) - k + 1)]
        if both_strands:
            windows = [min(w, reverse_complement(w)) for w in windows]
        return Counter(w for w in windows if len(set(w)) > 2)

    shared = (counts(a) & counts(b)).total()
    return (shared / max(1, min(len(a), len(b)) - k + 1)) ** (1 / k)
