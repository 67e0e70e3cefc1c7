"""Concordance of predicted risks with right-censored times."""

import numpy as np
from jaxtyping import Float

from biofm_jax.errors import UserError

_CELLS = 1_000_000  # pairs held at once


def survival_items(truth: Float[np.ndarray, "n 2"], risk: Float[np.ndarray, " n"]) -> np.ndarray:
    """(n, 3) columns time, event and risk, checked.

    Args:
        truth: (n, 2) time to event or censoring (any unit), and 1 = event, 0 = censored.
        risk: (n,) predicted risk, higher = earlier event; negate a predicted time.

    Raises:
        UserError: shapes differ, a value is not finite, a time is negative, an event is not 0
            or 1.
    """
    truth, risk = np.asarray(truth, np.float64), np.asarray(risk, np.float64)
    if truth.ndim != 2 or truth.shape[1] != 2 or risk.shape != truth.shape[:1]:
        raise UserError(
            f"survival wants (n, 2) time and event and (n,) risks, not {truth.shape} and "
            f"{risk.shape}"
        )
    if not np.isfinite(truth).all() or not np.isfinite(risk).all():
        raise UserError("a time, event or predicted risk is not finite")
    if (truth[:, 0] < 0).any() or not np.isin(truth[:, 1], (0, 1)).all():
        raise UserError("times must not be negative, and events must be 0 (censored) or 1")
    return np.column_stack([truth, risk])


def concordance(truth: Float[np.ndarray, "n 2"], risk: Float[np.ndarray, " n"]) -> float:
    """Harrell's C-index (Harrell et al. 1982).

    A pair can be compared if the earlier time is an event, or if both times are equal and one
    of them is an event. Among those, the share in which the item with the earlier event has the
    higher risk, equal risks counting a half. (As scikit-survival's
    `concordance_index_censored`, which calls risks within 1e-8 equal; here equal means equal.)

    Args:
        truth: (n, 2) time and event.
        risk: (n,) predicted risk, higher = earlier event.

    Raises:
        UserError: bad values, or no pair can be compared.
    """
    items = survival_items(truth, risk)
    value = float(concordance_block(items, np.ones((1, len(items))))[0])
    if np.isnan(value):
        raise UserError("no two items can be compared: too few events for a C-index")
    return value


def concordance_block(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(r,) C-indices of (n, 3) `survival_items` under (r, n) counts; nan without pairs.

    All n x events pairs are formed in slices, so time grows as r n events and memory as r n.
    """
    time, event, risk = items.T
    won, compared = np.zeros(len(counts)), np.zeros(len(counts))
    earlier = np.flatnonzero(event == 1)
    size = max(1, _CELLS // len(items))
    for start in range(0, len(earlier), size):
        i = earlier[start : start + size]
        later = (time[i, None] < time) | ((time[i, None] == time) & (event == 0))
        ahead = (risk[i, None] > risk) + 0.5 * (risk[i, None] == risk)
        drawn = counts[:, i]
        won += (drawn * (counts @ (later * ahead).T)).sum(1)
        compared += (drawn * (counts @ later.T.astype(float))).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return won / compared
