"""A task: labelled data, a split, a metric, baselines and published numbers; and their registry."""

import dataclasses
import difflib
import functools
import hashlib
import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from biofm_jax.adapt.labelled import Adapter, Labelled
from biofm_jax.data.registry import set_of
from biofm_jax.errors import UserError
from biofm_jax.evaluate.metrics import METRICS
from biofm_jax.evaluate.splits import Fold


@dataclasses.dataclass(frozen=True)
class Published:
    """A number somebody published.

    Attributes:
        name: the model or method.
        value: in the task's metric.
        source: where it can be read.
        comparable: whether data, split and protocol are those of the task.
        note: what differs, or what the reader should know.
    """

    name: str
    value: float
    source: str
    comparable: bool
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The labelled items of a task and their folds.

    Attributes:
        items: all n items.
        folds: one fold for a fixed split, several for a cross-validation; an item is tested in
            at most one of them.
        columns: k names of the label columns.
        wild_type: the sequence that variants are variants of.
        dropped: one line for each record of the source that could not be used.
    """

    items: Labelled
    folds: tuple[Fold, ...]
    columns: tuple[str, ...]
    wild_type: str | None = None
    dropped: tuple[str, ...] = ()

    def __post_init__(self):
        tested = np.concatenate([fold.test for fold in self.folds])
        if len(np.unique(tested)) < len(tested):
            raise UserError("an item is tested in two folds")
        for number, fold in enumerate(self.folds):
            used = np.concatenate([fold.train, fold.valid, fold.test])
            if len(np.unique(used)) < len(used):
                raise UserError(f"fold {number}: an item stands in two parts")
            if not len(fold.train) or not len(fold.test):
                raise UserError(f"fold {number}: no training or no test items")

    def part(self, index: np.ndarray) -> Labelled:
        """The items at some indices."""
        return Labelled(
            tuple(self.items.ids[i] for i in index),
            tuple(self.items.texts[i] for i in index),
            self.items.targets[index],
        )

    @functools.cached_property
    def tested(self) -> Labelled:
        """The items that some fold tests, in the order of the data."""
        return self.part(np.sort(np.concatenate([fold.test for fold in self.folds])))

    def fingerprint(self) -> str:
        """A hash of texts, labels and folds: 16 hexadecimal digits."""
        digest = hashlib.sha256("\0".join((*self.items.ids, *self.items.texts)).encode())
        digest.update(np.ascontiguousarray(self.items.targets, "<f8").tobytes())
        for fold in self.folds:
            for index in (fold.train, fold.valid, fold.test):
                digest.update(b"|" + np.ascontiguousarray(index, "<i8").tobytes())
        return digest.hexdigest()[:16]

    def predict_tested(self, adapter: Adapter, seed: int) -> Float[np.ndarray, "n k"]:
        """Predictions of an adapter for the `tested` items, each from the fold that tests it."""
        order = np.sort(np.concatenate([fold.test for fold in self.folds]))
        predicted = np.full((len(order), len(self.columns)), np.nan)
        for fold in self.folds:
            train, valid, test = (self.part(i) for i in (fold.train, fold.valid, fold.test))
            guess = np.asarray(adapter(train, valid, test.without_targets(), seed), np.float64)
            if guess.shape != test.targets.shape:
                raise UserError(
                    f"the predictions have shape {guess.shape}, the labels {test.targets.shape}"
                )
            predicted[np.searchsorted(order, fold.test)] = guess
        return predicted


@dataclasses.dataclass(frozen=True)
class Task:
    """Something to predict, and how the prediction is judged.

    Attributes:
        name: as in `biofm evaluate --task NAME`.
        modality: the module of `evaluate/tasks/` it lives in.
        data: root folder of the data sets, or None for the one `BIOFM_DATA` names -> Dataset.
        split: the split in words.
        metric: a key of `metrics.METRICS`.
        unit: of the label, empty if it has none.
        baselines: keys of `baselines.BASELINES`; at least one.
        published: numbers to show beside the results.
    """

    name: str
    modality: str
    data: Callable[[Path | None], Dataset]
    split: str
    metric: str
    unit: str
    baselines: tuple[str, ...]
    published: tuple[Published, ...] = ()

    @property
    def direction(self) -> str:
        """Whether "higher" or "lower" values of the metric are better."""
        return METRICS[self.metric].direction

    @property
    def kind(self) -> str:
        """The kind of label: "number" or "binary"."""
        return METRICS[self.metric].kind


@functools.cache
def all_tasks() -> dict[str, Task]:
    """Every task of every module in `evaluate/tasks/`, by name."""
    from biofm_jax.evaluate import tasks as package

    found: dict[str, Task] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        for task in importlib.import_module(f"{package.__name__}.{module}").TASKS:
            if task.name in found:
                raise UserError(f"two tasks are called {task.name}")
            found[task.name] = task
    return found


def get_task(name: str) -> Task:
    """The task of a name.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    tasks = all_tasks()
    if name in tasks:
        return tasks[name]
    near = difflib.get_close_matches(name, tasks, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"there is no task {name!r}: {hint}`biofm list tasks` shows all {len(tasks)}")


def data_file(root: Path | None, relative: str) -> Path:
    """A file under the root of the data sets.

    Args:
        root: the root, or None for the folder that `BIOFM_DATA` names.
        relative: path under the root.

    Raises:
        UserError: no root is known, or the file is not there.
    """
    named = root or os.environ.get("BIOFM_DATA")
    brings = set_of(relative)
    brought = f"; `biofm data fetch {brings}` brings it" if brings else ""
    if not named:
        raise UserError(
            f"the task needs {relative}: set BIOFM_DATA to the folder of data sets that holds "
            f"it{brought}"
        )
    path = Path(named) / relative
    if not path.is_file():
        raise UserError(
            f"{path} does not exist: BIOFM_DATA (or the data root given) should be the folder "
            f"that holds {relative}{brought}"
        )
    return path
