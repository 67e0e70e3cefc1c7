"""Simple methods beside models of single residues: the commonest class, and a window of letters."""

import functools

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from biofm_jax.adapt.fractions import Limited
from biofm_jax.adapt.labelled import Labelled
from biofm_jax.adapt.residues import enough_items, in_rows, labelled_residues

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
OTHER, END = len(LETTERS), len(LETTERS) + 1  # another letter; before the start, behind the end
WINDOW = 17  # residues, the one to predict in the middle
FITTED = 140_000  # residues of whole sequences, drawn from seed 0


def residue_majority(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """The class that most training residues have, at every place."""
    known = train.targets[~np.isnan(train.targets)]
    classes, counts = np.unique(known, return_counts=True)
    return np.full(test.targets.shape, classes[counts.argmax()])


def window_logistic(train: Labelled, valid: Labelled, test: Labelled, seed: int) -> np.ndarray:
    """Logistic regression on which letter stands at each place of a window around the residue.

    Inverse penalty 1; nothing is chosen. Deterministic.
    """
    model = _fitted(train.texts, train.targets.tobytes(), train.targets.shape)
    guess = [model.predict(_hot(windows(text))) for text in test.texts]
    return in_rows(guess, test.targets.shape[1])


def _enough(train: Labelled, valid: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    return train.at(enough_items(train, FITTED)), valid


@functools.lru_cache(maxsize=2)
def _fitted(texts: tuple[str, ...], labels: bytes, shape: tuple[int, int]) -> LogisticRegression:
    targets = np.frombuffer(labels).reshape(shape)
    places, y = labelled_residues([windows(text) for text in texts], targets)
    return LogisticRegression(max_iter=500).fit(_hot(places), y[:, 0])


def windows(text: str) -> np.ndarray:
    """(letters, 17) int64 codes of what stands around each letter, 0 to 21."""
    half = WINDOW // 2
    codes = np.array([LETTERS.find(letter) for letter in text])
    codes = np.pad(np.where(codes < 0, OTHER, codes), half, constant_values=END)
    return np.lib.stride_tricks.sliding_window_view(codes, WINDOW)


def _hot(places: np.ndarray) -> sparse.csr_array:
    """(n, 17 * 22) one-hot of (n, 17) codes."""
    n = len(places)
    columns = places + (END + 1) * np.arange(WINDOW)
    ones = np.ones(places.size)
    return sparse.csr_array(
        (ones, columns.ravel(), np.arange(n + 1) * WINDOW), (n, (END + 1) * WINDOW)
    )


RESIDUE_BASELINES = {
    "window_logistic": Limited(window_logistic, _enough),
    "residue_majority": residue_majority,
}
