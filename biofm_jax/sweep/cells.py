"""One cell of a sweep: a run in a folder of its own, which one process at a time may claim."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from biofm_jax import specs
from biofm_jax.adapt.methods import Tuning
from biofm_jax.errors import UserError
from biofm_jax.experiment import EXPERIMENT, FREE, Experiment, changed_fields
from biofm_jax.train.logging import METRICS, read_metrics

State = Literal["waiting", "running", "half-finished", "failed", "finished"]
LOG, FAILURE, EVALUATED, CLAIM = "log.txt", "failure.json", "evaluated.json", ".claim"
# A cell may be gone on with elsewhere, but not for another number of steps: the schedule differs.
FREE_OF_A_CELL = tuple(name for name in FREE if name != "loop.steps")


@dataclasses.dataclass(frozen=True)
class Work:
    """What is done with a trained cell.

    Attributes:
        pairs: (task, method) to evaluate.
        tuning: how to fine-tune and to tune adapters.
        results: folder of the result files.
        command: recorded as the way to repeat a result.
    """

    pairs: tuple[tuple[str, str], ...]
    tuning: Tuning
    results: Path
    command: str

    def key(self, task: str, method: str) -> dict:
        """What a cell remembers of a finished evaluation."""
        return {"task": task, "method": method, "options": specs.encode(self.tuning)}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A run of a sweep.

    Attributes:
        label: of its variant.
        seed: of pretraining, adaptation and control.
        experiment: with that seed.
        folder: its workdir.
    """

    label: str
    seed: int
    experiment: Experiment
    folder: Path

    @property
    def name(self) -> str:
        """As printed."""
        return f"{self.label} seed {self.seed}"

    def check(self) -> None:
        """Refuse a folder that holds another experiment.

        Raises:
            UserError: names the fields that differ.
        """
        changed = changed_fields(self.folder / EXPERIMENT, self.experiment, FREE_OF_A_CELL)
        if changed:
            raise UserError(
                f"{self.folder} holds another experiment ({'; '.join(changed[:5])}); choose "
                "another --out, or remove that folder"
            )

    def trained(self) -> bool:
        """Whether the checkpoint of the last step is there; a partial one has another name."""
        return (self.folder / "checkpoints" / str(self.experiment.loop.steps)).is_dir()

    def missing(self, work: Work) -> list[tuple[str, str]]:
        """The (task, method) pairs that are not evaluated yet."""
        done = _read(self.folder / EVALUATED, [])
        return [pair for pair in work.pairs if work.key(*pair) not in done]

    def finished(self, work: Work) -> bool:
        """Whether nothing is left to do."""
        return self.trained() and not self.missing(work)

    def failure(self) -> str:
        """Why the last attempt failed, or an empty text."""
        return _read(self.folder / FAILURE, {}).get("error", "")

    def state(self, work: Work) -> State:
        """Where the cell stands, seen from outside."""
        if not self.folder.is_dir():
            return "waiting"
        if self.finished(work):
            return "finished"
        with claimed(self.folder, patience=0.0) as claim:
            if claim is None:
                return "running"
        if self.failure():
            return "failed"
        return "half-finished" if (self.folder / METRICS).exists() else "waiting"

    def rows(self) -> list[dict]:
        """What the run has logged."""
        return read_metrics(self.folder / METRICS)


def folder_name(label: str, seed: int) -> str:
    """A folder for a label and a seed; labels that only differ in odd characters stay apart."""
    plain = ",".join(re.sub(r"[^A-Za-z0-9_.=+-]+", "-", part) for part in label.split(" "))[:80]
    if plain != label.replace(" ", ","):
        plain += "-" + hashlib.sha256(label.encode()).hexdigest()[:6]
    return f"{plain}_{seed}"


@contextlib.contextmanager
def claimed(folder: Path, patience: float = 1.0) -> Iterator[int | None]:
    """Claim a cell for this process and the children it hands the claim to.

    The operating system frees the claim when the last process that holds it has died, on this
    machine or, on a shared file system, on another; nothing stale is left to clean up.

    Args:
        folder: of the cell; made if needed.
        patience: seconds to try, since whoever asks for the state of a cell holds it for a
            moment.

    Yields:
        The file descriptor that holds the claim, or None where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CLAIM).open("w") as file:
        last = time.monotonic() + patience
        while not (got := _lock(file)) and time.monotonic() < last:
            time.sleep(0.1)
        yield file.fileno() if got else None


def _lock(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path, default):
    """A JSON file, or a default where it is absent or cut."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return default
