"""Metrics of class numbers along sequences, one row an item.

Point and block forms as in `metrics_number`.
"""

import numpy as np


def residue_accuracy(truth, guess) -> float:
    """Share of right classes among all labelled residues of all items; Q3 for three states.

    Args:
        truth: (n, k) class numbers, nan = missing; (n,) of items with one label each.
        guess: of the same shape, class numbers; those without a label do not count.
    """
    return float(residue_accuracy_block(truth, guess, np.ones((1, len(truth))))[0])


def residue_accuracy_block(truth, guess, counts):
    """(r,) shares; an item that was drawn twice brings all its residues twice."""
    right, labelled = (
        of.reshape(len(truth), -1).sum(1) for of in (truth == guess, ~np.isnan(truth))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts @ right / (counts @ labelled)
