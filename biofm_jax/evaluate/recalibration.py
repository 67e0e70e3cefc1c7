"""Temperature scaling and split conformal prediction on labels that an adaptation has not seen.

The validation part belongs to the adaptation: a probe chooses its penalty on it, fine-tuning its
epoch, and some simple methods train on it. Errors on such items are too small, and what is
calibrated on them promises too much: on `dms_blat`, 95 % intervals calibrated on validation items
that the one-hot ridge regression trained on hold 72 % of the test labels, on held-out items 95 %
(tests/evaluate/test_recalibration.py). So a random half of the validation part calibrates, and a
second adaptation, which does without that half, makes the predictions that are calibrated. The
result's own score and predictions stay those of the first, which has the whole validation part,
as in published protocols.

A method with fewer labels (`fractions`) calibrates on its own few: all validation labels would be
more than it was given.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.fractions import within_limits
from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.errors import UserError
from biofm_jax.evaluate.bootstrap import LEVEL, Score
from biofm_jax.evaluate.calibration import (
    Calibration,
    calibration,
    fit_temperature,
    log_probabilities,
    with_temperature,
)
from biofm_jax.evaluate.conformal import (
    Coverage,
    conformal_interval,
    conformal_sets,
    interval_coverage,
    set_coverage,
)
from biofm_jax.evaluate.metrics import METRICS, score
from biofm_jax.evaluate.task import Dataset, predictions

FEWEST = math.ceil(round(LEVEL / (1 - LEVEL), 9))  # labels that 95 % coverage needs: 19


@dataclasses.dataclass(frozen=True)
class Temperature:
    """Temperature scaling of the probabilities of a 0/1 label.

    Attributes:
        values: for each fold, for each label column; None where none could be fitted and the
            probabilities stay as they are.
        before: of the test items, without it.
        after: with it.
    """

    values: tuple[tuple[float | None, ...], ...]
    before: Calibration
    after: Calibration


@dataclasses.dataclass(frozen=True)
class Conformal:
    """Split conformal prediction of one label column.

    Attributes:
        label: name of the column.
        coverage: on the test items; sets of classes ("lac") for a 0/1 label, intervals for a
            number. Its `n_calibration` is of the fold with the fewest. None without enough
            labels.
    """

    label: str
    coverage: Coverage | None


@dataclasses.dataclass(frozen=True)
class Recalibration:
    """What half of the validation part, held out from a second adaptation, says of test items.

    Attributes:
        n_valid: validation items that the second adaptation had (of the first fold).
        n_calibration: those held out from it (of the first fold).
        score: of the second adaptation on the test items, in the task's metric; it should be
            near the result's own.
        temperature: None for numbers, for scores that are no probabilities, and where no
            temperature could be fitted.
        conformal: one for each label column; none for scores that are no probabilities.
        notes: what could not be done, and why.
    """

    n_valid: int
    n_calibration: int
    score: Score
    temperature: Temperature | None
    conformal: tuple[Conformal, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Fold:
    """A fold's second adaptation: its held-out labels, and predictions of those and the test."""

    rows: np.ndarray  # (m,) places of the test items among all tested
    labels: Float[np.ndarray, "v k"]
    held: Float[np.ndarray, "v k"]
    test: Float[np.ndarray, "m k"]


def halves(valid: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """A validation part cut in two at random: the half to choose on, the half that calibrates.

    Both keep the order of the data; of an odd number the first has one more.
    """
    # 4: an order of its own beside those of `fractions`.
    order = np.random.default_rng((seed, 4)).permutation(len(valid))
    first = (len(valid) + 1) // 2
    return valid.at(np.sort(order[:first])), valid.at(np.sort(order[first:]))


def recalibrate(
    dataset: Dataset,
    adapter: Adapter,
    metric: str,
    seed: int,
    starting: Callable[[], None] = lambda: None,
) -> Recalibration | None:
    """Adapt once more without half of the validation part, and calibrate on that half.

    Args:
        dataset: items and folds.
        adapter: what adapts; the labels of test items and of the held-out half do not reach it.
        metric: the task's, a key of `METRICS`.
        seed: of the halves and the adaptation.
        starting: called once before adapting.

    Returns:
        None, without adapting, where a fold's half has too few labels for 95 % coverage (19) in
        every column, or the label is a class number, of which there is no probability.

    Raises:
        UserError: predictions are not finite or misshapen.
    """
    parts = []
    for fold in dataset.folds:
        train, valid = dataset.part(fold.train), dataset.part(fold.valid)
        inner, train, valid = within_limits(adapter, train, valid, seed)
        chosen_on, held = halves(valid, seed)
        if METRICS[metric].classes or (~np.isnan(held.targets)).sum(0).max() < FEWEST:
            return None
        parts.append((inner, train, chosen_on, held))
    starting()
    folds = []
    predicted = np.full((len(dataset.tested_rows), len(dataset.columns)), np.nan)
    for fold, (inner, train, chosen_on, held) in zip(dataset.folds, parts):
        test = dataset.part(fold.test)
        guess = predictions(inner, train, chosen_on, _joined(test, held), seed)
        if not np.isfinite(guess).all():
            raise UserError("a prediction of the held-out validation items is not finite")
        rows = np.searchsorted(dataset.tested_rows, fold.test)
        folds.append(_Fold(rows, held.targets, guess[len(test) :], guess[: len(test)]))
        predicted[rows] = guess[: len(test)]
    truth = dataset.tested.targets
    temperature, conformal, notes = None, (), []
    binary = METRICS[metric].kind == "binary"
    if binary and any(_outside(part.held) or _outside(part.test) for part in folds):
        notes.append("the scores are no probabilities: there is nothing to calibrate")
    else:
        if binary:
            temperature = _temperature(truth, predicted, folds, dataset.columns, notes)
        conformal = tuple(
            Conformal(label, _coverage(truth[:, k], folds, k, binary, label, notes))
            for k, label in enumerate(dataset.columns)
        )
    return Recalibration(
        n_valid=len(parts[0][2]),
        n_calibration=len(parts[0][3]),
        score=score(metric, truth, predicted),
        temperature=temperature,
        conformal=conformal,
        notes=tuple(dict.fromkeys(notes)),
    )


def _joined(one: Labelled, other: Labelled) -> Labelled:
    return Labelled(
        one.ids + other.ids, one.texts + other.texts, np.concatenate([one.targets, other.targets])
    )


def _outside(predicted: np.ndarray) -> bool:
    return bool(predicted.min() < 0 or predicted.max() > 1)


def _temperature(truth, predicted, folds, columns, notes) -> Temperature | None:
    values, scaled = [], predicted.copy()
    for fold in folds:
        fitted: list[float | None] = []
        for k, label in enumerate(columns):
            have = ~np.isnan(fold.labels[:, k])
            try:
                value = fit_temperature(log_probabilities(fold.held[have, k]), fold.labels[have, k])
            except UserError as error:
                notes.append(f"{label}: {error}")
                fitted.append(None)
                continue
            logits = log_probabilities(fold.test[:, k])
            scaled[fold.rows, k] = with_temperature(logits, value)[:, 1]
            fitted.append(value)
        values.append(tuple(fitted))
    if all(value is None for fitted in values for value in fitted):
        return None
    return Temperature(tuple(values), calibration(truth, predicted), calibration(truth, scaled))


def _coverage(truth, folds, k, binary, label, notes) -> Coverage | None:
    """Of label column k; the folds are calibrated one by one and judged together."""
    low, high = np.full((2, len(truth)), np.nan)
    sets = np.zeros((len(truth), 2), bool)
    counts = []
    try:
        for fold in folds:
            have = ~np.isnan(fold.labels[:, k])
            labels, held, test = fold.labels[have, k], fold.held[have, k], fold.test[:, k]
            counts.append(len(labels))
            if binary:
                sets[fold.rows] = conformal_sets(labels, _classes(held), _classes(test))
            else:
                low[fold.rows], high[fold.rows] = conformal_interval(labels, held, test)
    except UserError as error:
        notes.append(f"{label}: {error}")
        return None
    have = ~np.isnan(truth)
    if binary:
        return set_coverage(truth[have], sets[have], LEVEL, min(counts))
    return interval_coverage(truth[have], low[have], high[have], LEVEL, min(counts))


def _classes(probability: np.ndarray) -> np.ndarray:
    """(n, 2) probabilities of 0 and 1."""
    return np.stack([1 - probability, probability], axis=1)
