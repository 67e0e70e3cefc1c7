"""Perplexity and bits per base, from the log likelihood of each item."""

import numpy as np
from jaxtyping import Float, Shaped

from biofm_jax.errors import UserError


def likelihood_items(
    log_likelihood: Float[np.ndarray, " n"], count: Shaped[np.ndarray, " n"]
) -> np.ndarray:
    """(n, 2) columns log likelihood and count, checked.

    Args:
        log_likelihood: (n,) natural logarithm, summed over the predicted tokens of each item.
        count: (n,) predicted tokens for perplexity; bases, amino acids or characters for bits
            per base, also where a token covers several of them.

    Raises:
        UserError: shapes differ, a value is not finite or positive, or nothing was predicted.
    """
    total, count = np.asarray(log_likelihood, np.float64), np.asarray(count, np.float64)
    if total.ndim != 1 or total.shape != count.shape:
        raise UserError(f"log likelihoods {total.shape} and counts {count.shape} should be (n,)")
    if not np.isfinite(total).all():
        row = int(np.argmin(np.isfinite(total)))
        raise UserError(f"the log likelihood of test item {row} is not finite")
    if not np.isfinite(count).all() or (count < 0).any() or not count.sum():
        raise UserError("counts must be finite and not negative, and some item must be predicted")
    return np.column_stack([total, count])


def perplexity(log_likelihood: Float[np.ndarray, " n"], count: Shaped[np.ndarray, " n"]) -> float:
    """exp of the mean negative log likelihood of a token, long items counting more.

    Comparable between models of the same tokens only; bits per base are comparable across
    tokenizers.
    """
    items = likelihood_items(log_likelihood, count)
    return float(perplexity_block(items, np.ones((1, len(items))))[0])


def perplexity_block(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(r,) perplexities of (n, 2) `likelihood_items` under (r, n) counts."""
    return np.exp(_loss(items, counts))


def bits_per_base(
    log_likelihood: Float[np.ndarray, " n"], count: Shaped[np.ndarray, " n"]
) -> float:
    """Mean bits needed for a base (or residue, or character); 2 for guessing among A, C, G, T."""
    items = likelihood_items(log_likelihood, count)
    return float(bits_per_base_block(items, np.ones((1, len(items))))[0])


def bits_per_base_block(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(r,) bits per base of (n, 2) `likelihood_items` under (r, n) counts."""
    return _loss(items, counts) / np.log(2)


def _loss(items, counts) -> np.ndarray:
    sums = counts @ items
    with np.errstate(invalid="ignore", divide="ignore"):
        return -sums[:, 0] / sums[:, 1]
