"""Columns of metadata that alone tell the label: why a trial stopped, whether it succeeded."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from biofm_jax.evaluate.split_groups import is_missing

LIMIT = 0.99
FEWEST_ROWS = 20  # with fewer, or fewer of a class than the next, a column can fit by luck
FEWEST_OF_A_CLASS = 5
PART_ROWS, PART_PURE, PART_BASE = 0.05, 0.95, 0.8
LUCK = 1e-6
BINS = 20
FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Revealing:
    """A column that tells a label.

    Attributes:
        column: its name.
        label: name of the label column.
        rule: how it tells: by "its order", "its categories", "its ranges", "being blank", or,
            of a part of the items, by "being withdrawn" (one of its values) or "not being blank".
        measure: "AUROC", "Spearman", or for a part "share of one label".
        score: of the rule, 1 is perfect.
        rows: share of the labelled items that the rule is about.
    """

    column: str
    label: str
    rule: str
    measure: str
    score: float
    rows: float


def revealing_columns(
    columns: Mapping[str, Sequence],
    targets: np.ndarray,
    labels: Sequence[str],
    classes: bool = False,
    limit: float = LIMIT,
) -> tuple[Revealing, ...]:
    """The columns that, by a rule of one column, predict a label nearly perfectly.

    The rules: the value, in its order (texts in the order of the alphabet, so that identifiers
    with a telling prefix are found); the mean label of the category, or of twenty ranges of a
    number, in the other folds of a 5-fold cross-fit, blank being a category; blank or not. A
    label of two values is scored by AUROC, one of more by the mean AUROC of class against rest,
    a number by the absolute Spearman correlation. A column of names that are all different tells
    nothing by its categories: a category of one item has no mean elsewhere.

    A column that tells nothing of most items may tell the label of some: why a trial stopped,
    where one did. So a value (or not being blank) is named too if a twentieth of the items or
    more have it, and 95 % of these have one class, which at most 80 % of all items have.

    Args:
        columns: name -> n cells: numbers, texts, None or nan.
        targets: (n, k) labels, nan = missing.
        labels: k names.
        classes: whether the numbers of a label are classes.
        limit: the score from which on a column is named.

    Returns:
        The columns found, each by its best rule, in the order given.
    """
    found = []
    for name, cells in columns.items():
        order, rules = _rules(cells)
        for k, label in enumerate(labels):
            have = ~np.isnan(targets[:, k])
            if not have.any():
                continue
            indicators, measure = _indicators(targets[have, k], classes)
            scores = {"its order": _order_score(order[have], indicators, measure)} | {
                rule: _category_score(codes[have], indicators, measure)
                for rule, codes in rules.items()
            }
            rule = max(scores, key=scores.__getitem__)
            if scores[rule] >= limit:
                found.append(Revealing(name, label, rule, measure, scores[rule], 1.0))
            elif measure == "AUROC" and indicators:
                found += _partial(name, label, list(itertools.compress(cells, have)), indicators)
    return tuple(found)


def _partial(name: str, label: str, cells: Sequence, indicators: list) -> list[Revealing]:
    """The value, or not being blank, that tells the label of most of the items that have it."""
    blank = np.array([is_missing(cell) for cell in cells], bool)
    texts = np.array([str(cell) for cell in cells])
    fewest = max(FEWEST_ROWS, PART_ROWS * len(texts))
    values, counts = np.unique(texts[~blank], return_counts=True)
    rules = {f"being {v}": (texts == v) & ~blank for v in values[counts >= fewest]}
    if blank.any():
        rules["not being blank"] = ~blank
    found = []
    classes = indicators if len(indicators) > 1 else [indicators[0], 1 - indicators[0]]
    for rule, there in rules.items():
        n = int(there.sum())
        for y in classes if n >= fewest else ():
            hits, base = int(y[there].sum()), float(y.mean())
            by_luck = stats.binom.sf(hits - 1, n, base) > LUCK
            if hits >= PART_PURE * n and base <= PART_BASE and not by_luck:
                share = n / len(texts)
                found.append(Revealing(name, label, rule, "share of one label", hits / n, share))
    return sorted(found, key=lambda row: -row.rows)[:1]


def _indicators(y: np.ndarray, classes: bool) -> tuple[list[np.ndarray], str]:
    """The label as 0/1 columns and "AUROC", or as a number and "Spearman"."""
    values, counts = np.unique(y, return_counts=True)
    if len(values) == 2:
        return [(y == values[1]).astype(float)], "AUROC"
    if classes:
        values = values[counts >= FEWEST_OF_A_CLASS]
        return [(y == value).astype(float) for value in values], "AUROC"
    return [y], "Spearman"


def _rules(cells: Sequence) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(n,) values in order, nan = blank; and (n,) categories from 0 by rule."""
    blank = np.array([is_missing(cell) for cell in cells], bool)
    values = np.full(len(blank), np.nan)
    try:
        values[~blank] = [float(cell) for cell, gone in zip(cells, blank) if not gone]
    except (TypeError, ValueError):
        texts = [str(cell) for cell, gone in zip(cells, blank) if not gone]
        values[~blank] = np.unique(texts, return_inverse=True)[1]
    categories = np.unique(values, return_inverse=True)[1]  # nan is one, the last
    rules = {"its categories": categories}
    known = values[~blank]
    if len(np.unique(known)) > BINS:
        edges = np.quantile(known, np.arange(1, BINS) / BINS)
        rules["its ranges"] = np.where(blank, BINS, np.searchsorted(edges, values, "right"))
    if blank.any() and not blank.all():
        rules["being blank"] = blank.astype(np.int64)
    return values, rules


def _order_score(values: np.ndarray, indicators: list[np.ndarray], measure: str) -> float:
    there = ~np.isnan(values)
    scores = []
    for y in indicators:
        if not _enough(y[there], measure) or np.ptp(values[there]) == 0:
            return 0.0
        score = _score(y[there], values[there], measure)
        scores.append(max(score, 1 - score) if measure == "AUROC" else abs(score))
    return float(np.mean(scores)) if scores else 0.0


def _category_score(codes: np.ndarray, indicators: list[np.ndarray], measure: str) -> float:
    fold = np.random.default_rng(0).permutation(len(codes)) % FOLDS
    scores = []
    for y in indicators:
        if not _enough(y, measure):
            return 0.0
        guess = np.zeros(len(y))
        for number in range(FOLDS):
            held = fold == number
            size = int(codes.max()) + 1
            count = np.bincount(codes[~held], minlength=size)
            total = np.bincount(codes[~held], weights=y[~held], minlength=size)
            # One item's worth of the mean: a category of few items says less.
            guess[held] = ((total + y[~held].mean()) / (count + 1))[codes[held]]
        scores.append(0.0 if np.ptp(guess) == 0 else _score(y, guess, measure))
    return float(np.mean(scores)) if scores else 0.0


def _enough(y: np.ndarray, measure: str) -> bool:
    if len(y) < FEWEST_ROWS:
        return False
    if measure == "Spearman":
        return bool(np.ptp(y) > 0)
    return bool(min(y.sum(), (1 - y).sum()) >= FEWEST_OF_A_CLASS)


def _score(y: np.ndarray, guess: np.ndarray, measure: str) -> float:
    if measure == "AUROC":
        return float(roc_auc_score(y, guess))
    return float(stats.spearmanr(y, guess).statistic)
