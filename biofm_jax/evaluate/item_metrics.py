"""Metrics of other inputs than (n, k) labels, by name, with direction and bootstrap interval.

Each turns its inputs into a row of numbers per test item (a recall, a Dice, a log likelihood
and a count), and those rows, weighted by how often a resample drew each item, into its value.
So the interval of any of them costs no more than a mean.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.evaluate.bootstrap import RESAMPLES, Score, interval, resampled_counts
from biofm_jax.evaluate.metrics_effect import ate_error_block, effect_items, pehe_block
from biofm_jax.evaluate.metrics_forecast import covered, weighted_interval_score
from biofm_jax.evaluate.metrics_likelihood import (
    bits_per_base_block,
    likelihood_items,
    perplexity_block,
)
from biofm_jax.evaluate.metrics_mask import dice, hausdorff95
from biofm_jax.evaluate.metrics_number import weighted_mean
from biofm_jax.evaluate.metrics_retrieval import contact_precision, recall_at_k
from biofm_jax.evaluate.metrics_survival import concordance_block, survival_items
from biofm_jax.evaluate.metrics_text import RougeKind, rouge


@dataclasses.dataclass(frozen=True)
class ItemMetric:
    """A metric of items.

    Attributes:
        name: as written in results.
        label: as printed.
        direction: whether "higher" or "lower" values are better, or the "nominal" one.
        items: the inputs of the metric, with its options by name -> (n,) or (n, c) numbers.
        block: those numbers, (r, n) counts -> (r,) values, nan where undefined.
    """

    name: str
    label: str
    direction: Literal["higher", "lower", "nominal"]
    items: Callable[..., np.ndarray]
    block: Callable[[np.ndarray, np.ndarray], np.ndarray] = weighted_mean


def _rouge_items(kind: RougeKind):
    def items(references: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
        """(n,) F1 of each text."""
        return np.array([rouge(*pair, kind)[2] for pair in _pairs(references, candidates)])

    return items


def _dice_items(truth: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) Dice of each image."""
    return np.array([dice(*pair) for pair in _pairs(truth, predicted)])


def _hausdorff_items(
    truth: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    spacing: Sequence[Sequence[float]],
) -> np.ndarray:
    """(n,) mm; one spacing for each image."""
    pairs = _pairs(truth, predicted)
    if len(spacing) != len(pairs):
        raise UserError(f"{len(pairs)} images, but {len(spacing)} spacings: one for each image")
    return np.array([hausdorff95(*pair, mm) for pair, mm in zip(pairs, spacing)])


def _pairs(truth: Sequence, predicted: Sequence) -> list[tuple]:
    if len(truth) != len(predicted):
        raise UserError(f"{len(truth)} true items, but {len(predicted)} predicted ones")
    return list(zip(truth, predicted))


_ROWS = (
    ("c_index", "C-index", "higher", survival_items, concordance_block),
    ("recall_at_k", "recall@k", "higher", recall_at_k),
    ("precision_at_l", "precision@L", "higher", contact_precision),
    ("perplexity", "perplexity", "lower", likelihood_items, perplexity_block),
    ("bits_per_base", "bits per base", "lower", likelihood_items, bits_per_base_block),
    ("rouge_1", "ROUGE-1", "higher", _rouge_items("1")),
    ("rouge_2", "ROUGE-2", "higher", _rouge_items("2")),
    ("rouge_l", "ROUGE-L", "higher", _rouge_items("L")),
    ("dice", "Dice", "higher", _dice_items),
    ("hausdorff95", "Hausdorff 95 (mm)", "lower", _hausdorff_items),
    ("wis", "WIS", "lower", weighted_interval_score),
    ("coverage", "interval coverage", "nominal", covered),
    ("pehe", "PEHE", "lower", effect_items, pehe_block),
    ("ate_error", "ATE error", "lower", effect_items, ate_error_block),
)
ITEM_METRICS = {row[0]: ItemMetric(*row) for row in _ROWS}


def item_value(name: str, items: np.ndarray) -> float:
    """The metric of its items.

    Args:
        name: a key of `ITEM_METRICS`.
        items: (n,) or (n, c), what `ITEM_METRICS[name].items` gave.

    Raises:
        UserError: there are no items, or they leave the metric undefined.
    """
    if not len(items):
        raise UserError(f"{ITEM_METRICS[name].label}: there are no test items")
    value = float(ITEM_METRICS[name].block(items, np.ones((1, len(items))))[0])
    if np.isnan(value):
        raise UserError(f"{ITEM_METRICS[name].label} is undefined on these {len(items)} items")
    return value


def item_resampled(
    name: str, items: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """(resamples,) values on items drawn again with replacement; draws as `metrics.resampled`."""
    block = ITEM_METRICS[name].block
    return resampled_counts(lambda counts: block(items, counts), len(items), resamples, seed)


def item_score(name: str, *inputs, **options) -> Score:
    """Value and 95 % bootstrap interval (1,000 resamples, seed 0) over test items.

    Args:
        name: a key of `ITEM_METRICS`.
        *inputs: of its `items` function, truth first.
        **options: of the same, such as `k=10`.

    Raises:
        UserError: the inputs do not fit, or the metric is undefined on them.
    """
    items = ITEM_METRICS[name].items(*inputs, **options)
    return Score(item_value(name, items), *interval(item_resampled(name, items)))
