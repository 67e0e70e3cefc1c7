"""What is compared: the predictions of a method, by all its seeds, for the items of a task."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from biofm_jax.errors import UserError
from biofm_jax.evaluate.results import Result
from biofm_jax.evaluate.table import CONTROL, Row


@dataclasses.dataclass(frozen=True, eq=False)
class Contestant:
    """The predictions of a method for the test items of a task, by all its seeds.

    Attributes:
        name: as printed.
        task: name of the task.
        data: fingerprint of the data and folds.
        metric: key of `metrics.METRICS`.
        ids: n item names.
        truth: (n, k) labels, nan = missing.
        predicted: (s, n, k), one for each seed.
    """

    name: str
    task: str
    data: str
    metric: str
    ids: tuple[str, ...]
    truth: Float[np.ndarray, "n k"]
    predicted: Float[np.ndarray, "s n k"]


def contestant(of: Result | Row | Sequence[Result], *, control: bool = False) -> Contestant:
    """The predictions of a result, or of the results of several seeds.

    Args:
        of: a result, a row of the table, or the results of one method over its seeds.
        control: take the random-initialised control's predictions instead.

    Raises:
        UserError: no results, not of the same items, or without a control.
    """
    results = (of,) if isinstance(of, Result) else of.results if isinstance(of, Row) else tuple(of)
    if not results:
        raise UserError("a comparison needs at least one result of each method")
    arrays = [r.predictions.control if control else r.predictions.predicted for r in results]
    if any(array is None for array in arrays):
        raise UserError(f"{results[0].task}: {results[0].model} was run without a control")
    first, *others = (
        Contestant(
            f"{CONTROL if control else r.model}, {r.method}",
            r.task,
            r.data,
            r.metric,
            r.predictions.ids,
            r.predictions.truth,
            array[None],
        )
        for r, array in zip(results, arrays)
    )
    for other in others:
        if other.name != first.name:
            raise UserError(f"seeds of two methods, {first.name} and {other.name}: give one")
        check_same_items(first, other)
    return dataclasses.replace(first, predicted=np.stack(arrays))


def check_same_items(one: Contestant, other: Contestant) -> None:
    """Refuse what cannot be paired.

    Raises:
        UserError: task, data and folds, test items or labels differ; the message names both.
    """
    pair = f"{one.name} and {other.name} cannot be compared: "
    if one.task != other.task:
        raise UserError(f"{pair}the tasks are {one.task} and {other.task}")
    if len(one.ids) != len(other.ids):
        raise UserError(f"{pair}{one.task} has {len(one.ids)} and {len(other.ids)} test items")
    for number, (a, b) in enumerate(zip(one.ids, other.ids)):
        if a != b:
            raise UserError(f"{pair}test item {number} of {one.task} is {a} and {b}")
    if one.data != other.data:
        raise UserError(
            f"{pair}data or folds of {one.task} differ (fingerprints {one.data} and "
            f"{other.data}); evaluate both on the same files again"
        )
    if not np.array_equal(one.truth, other.truth, equal_nan=True):
        raise UserError(f"{pair}the labels of {one.task} differ")
