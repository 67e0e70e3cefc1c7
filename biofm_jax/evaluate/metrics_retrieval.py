"""Metrics of ranked candidates: recall@k of retrieval, precision@L of contact maps.

Equal scores share the places they compete for, as the mean over all ways to break the tie: a
model that scores everything alike gets what a random order gets, not all or nothing.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from biofm_jax.errors import UserError

LONG_RANGE = 24  # residues apart along the chain, as in CASP and ESM


def recall_at_k(
    relevant: Bool[np.ndarray, "q c"], scores: Float[np.ndarray, "q c"], k: int
) -> Float[np.ndarray, " q"]:
    """The share of each query's relevant candidates that stand among its k best.

    Args:
        relevant: (q, c) which candidates are right for a query; an n x n identity for pairs of
            image and text.
        scores: (q, c) higher = better; -inf leaves a candidate out, as known facts in a filtered
            ranking.
        k: at least 1.

    Returns:
        (q,) recalls between 0 and 1.

    Raises:
        UserError: shapes differ, a score is nan, k is below 1, or a query has nothing relevant.
    """
    relevant, scores = np.asarray(relevant, bool), np.asarray(scores, np.float64)
    if relevant.shape != scores.shape or scores.ndim != 2:
        raise UserError(
            f"recall@k wants (q, c) relevant and scores, not {relevant.shape} and {scores.shape}"
        )
    if not relevant.any(1).all():
        row = int(np.argmin(relevant.any(1)))
        raise UserError(f"query {row} has no relevant candidate: leave it out")
    return _hits(relevant, scores, k) / relevant.sum(1)


def contact_precision(
    contacts: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    *,
    per_length: float = 1.0,
    separation: int = LONG_RANGE,
) -> Float[np.ndarray, " n"]:
    """Precision of the L best-scored pairs of residues of each protein.

    Args:
        contacts: n (l, l) maps, 1 = contact, 0 = none, nan = not resolved (left out); only i < j
            is read.
        scores: n (l, l) maps, higher = more likely; i, j and j, i are averaged.
        per_length: pairs taken per residue: 1 for L, 0.2 for L/5. L counts all residues; a
            protein with fewer pairs than that takes them all.
        separation: smallest distance along the chain, in residues; 24 = long range.

    Returns:
        (n,) precisions between 0 and 1.

    Raises:
        UserError: counts or shapes differ, a score is nan, or no pair is far enough apart.
    """
    if len(contacts) != len(scores):
        raise UserError(f"{len(contacts)} contact maps, but {len(scores)} score maps")
    values = []
    for number, (contact, score) in enumerate(zip(contacts, scores)):
        contact, score = np.asarray(contact, np.float64), np.asarray(score, np.float64)
        length = len(contact)
        if contact.shape != (length, length) or score.shape != contact.shape:
            raise UserError(
                f"protein {number}: contacts {contact.shape} and scores {score.shape} should "
                "both be (l, l)"
            )
        pairs = np.triu_indices(length, separation)
        known = ~np.isnan(contact[pairs])
        true, score = contact[pairs][known], ((score + score.T) / 2)[pairs][known]
        if not len(true):
            raise UserError(
                f"protein {number}: none of its {length} residues are {separation} apart and "
                "resolved: leave it out"
            )
        k = min(len(true), max(1, round(per_length * length)))
        values.append(_hits(true[None] == 1, score[None], k)[0] / k)
    return np.array(values)


def _hits(relevant, scores, k) -> np.ndarray:
    """(q,) expected relevant candidates among the k best of each row."""
    if k < 1:
        raise UserError(f"k must be at least 1, not {k}")
    if np.isnan(scores).any():
        raise UserError(f"the scores of row {int(np.argwhere(np.isnan(scores))[0, 0])} hold a nan")
    k = min(k, scores.shape[1])
    last = -np.partition(-scores, k - 1, axis=1)[:, [k - 1]]
    above, level = scores > last, scores == last
    places = k - above.sum(1)
    return (relevant & above).sum(1) + (relevant & level).sum(1) * places / level.sum(1)
