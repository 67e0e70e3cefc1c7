"""A task: labelled data, a split, a metric, baselines and published numbers; and their registry."""

import dataclasses
import difflib
import fnmatch
import functools
import hashlib
import importlib
import os
import pkgutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

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
        columns: k names of the label columns; of residues, their places.
        wild_type: the sequence that variants are variants of.
        dropped: one line for each record of the source that could not be used.
        groups: column -> n values (text or numbers; None, nan and blank are unknown) such as the
            scaffold, the site or the age band: the metric is given within each.
        apart: those of `groups` whose members belong on one side of the split, such as the
            patient: the leak report looks whether they are.
        metadata: column -> n cells of what else is known of the items: the leak report looks
            whether one tells the label.
        classes: what the class numbers 0, 1, ... of a label of classes stand for.
    """

    items: Labelled
    folds: tuple[Fold, ...]
    columns: tuple[str, ...]
    wild_type: str | None = None
    dropped: tuple[str, ...] = ()
    groups: Mapping[str, Sequence[Hashable]] = dataclasses.field(default_factory=dict)
    apart: tuple[str, ...] = ()
    metadata: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def __post_init__(self):
        known = self.items.targets[~np.isnan(self.items.targets)]
        if self.classes and not np.isin(known, np.arange(len(self.classes))).all():
            raise UserError(
                f"labels of {', '.join(self.classes)} are numbers from 0, in that order"
            )
        for name, cells in (*self.groups.items(), *self.metadata.items()):
            if len(cells) != len(self.items):
                raise UserError(f"column {name} has {len(cells)} cells, not {len(self.items)}")
        if unknown := sorted(set(self.apart) - set(self.groups)):
            raise UserError(
                f"there is no grouping column {unknown[0]!r}; there are "
                f"{', '.join(self.groups) or 'none'}"
            )
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
        return self.items.at(index)

    @functools.cached_property
    def tested_rows(self) -> Int[np.ndarray, " n"]:
        """The indices of the items that some fold tests, ascending."""
        return np.sort(np.concatenate([fold.test for fold in self.folds]))

    @functools.cached_property
    def tested(self) -> Labelled:
        """The items that some fold tests, in the order of the data."""
        return self.part(self.tested_rows)

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
        predicted = np.full((len(self.tested_rows), len(self.columns)), np.nan)
        for fold in self.folds:
            train, valid, test = (self.part(i) for i in (fold.train, fold.valid, fold.test))
            guess = predictions(adapter, train, valid, test, seed)
            predicted[np.searchsorted(self.tested_rows, fold.test)] = guess
        return predicted


def predictions(
    adapter: Adapter, train: Labelled, valid: Labelled, test: Labelled, seed: int
) -> Float[np.ndarray, "n k"]:
    """What an adapter predicts for n items whose labels, if there are any, it does not see.

    Raises:
        UserError: the predictions do not have the shape of the labels.
    """
    guess = np.asarray(adapter(train, valid, test.without_targets(), seed), np.float64)
    if guess.shape != test.targets.shape:
        raise UserError(
            f"the predictions have shape {guess.shape}, the labels {test.targets.shape}"
        )
    return guess


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
        """The kind of label: "number", "binary", "class" or "residue" (`adapt.residues`)."""
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


def matching_tasks(patterns: Sequence[str]) -> list[Task]:
    """The tasks of names in which `*` stands for any part, each once, in the order asked.

    Raises:
        UserError: as `get_task`.
    """
    names: list[str] = []
    for pattern in patterns:
        names += fnmatch.filter(all_tasks(), pattern) or [get_task(pattern).name]
    return [get_task(name) for name in dict.fromkeys(names)]


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
