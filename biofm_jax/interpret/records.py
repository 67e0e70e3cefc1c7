"""An interpretation on disk: a JSON file that says how it was made, and its arrays beside it."""

import dataclasses
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biofm_jax.errors import UserError
from biofm_jax.files import write_whole

SUFFIX = ".interpretation.json"
# Kind -> the arrays that its picture needs.
KINDS = {
    "rollout": ("flow", "tokens"),
    "contacts": ("contacts", "tokens"),
    "mutagenesis": ("changes", "tokens", "alphabet"),
    "gradients": ("attributions", "tokens"),
    "embeddings": ("points", "labels"),
    "maps": ("image", "maps", "names"),
    "pointing": ("names", "hits", "areas"),
    "neighbours": ("queries", "found", "query_labels", "found_labels", "similarity"),
    "reconstruction": ("images", "shown", "drawn"),
}


@dataclasses.dataclass(frozen=True)
class Interpretation:
    """One picture's worth of explanation.

    Attributes:
        kind: a key of `KINDS`.
        model: name or path of the model.
        task: name of the task, empty without one.
        title: what is shown.
        caption: how to read it.
        unit: of the values shown, empty without one.
        seed: of the model's random parameters and of what is drawn.
        command: that can be run again.
        commit: of the code.
        arrays: what is drawn, as `KINDS` names it.
    """

    kind: str
    model: str
    task: str
    title: str
    caption: str
    unit: str
    seed: int
    command: str
    commit: str
    arrays: dict[str, np.ndarray] = dataclasses.field(compare=False)

    def __post_init__(self):
        missing = set(KINDS[self.kind]) - self.arrays.keys()
        if missing:
            raise UserError(f"an interpretation by {self.kind} lacks {', '.join(sorted(missing))}")


def write_interpretation(found: Interpretation, folder: Path, name: str) -> Path:
    """Write NAME.interpretation.json and its arrays, the arrays first; returns the JSON's path."""
    path = folder / f"{name}{SUFFIX}"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found.arrays)
    write_whole(_arrays_path(path), buffer.getvalue())
    record = {k: v for k, v in dataclasses.asdict(found).items() if k != "arrays"}
    write_whole(path, json.dumps(record, indent=2) + "\n")
    return path


def read_interpretation(path: Path) -> Interpretation:
    """Read an interpretation.

    Raises:
        UserError: a file is missing, cut short, or lacks a field.
    """
    try:
        record = json.loads(path.read_text())
        with np.load(_arrays_path(path), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return Interpretation(**record, arrays=arrays)
    except (
        UserError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{path}: not a whole interpretation ({type(error).__name__}: {error})"
        ) from error


def read_interpretations(folders: Sequence[Path]) -> tuple[list[Interpretation], list[str]]:
    """Every interpretation under some folders, and a message for each that cannot be read."""
    found, problems = [], []
    for path in sorted({p for folder in folders for p in folder.rglob(f"*{SUFFIX}")}):
        try:
            found.append(read_interpretation(path))
        except UserError as error:
            problems.append(str(error))
    return found, problems


def _arrays_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(SUFFIX) + ".arrays.npz")
