"""The grid of a sweep: named values of some fields, and every combination of them."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment, apply_variant, experiment_file, load_experiment
from biofm_jax.sweep.overrides import override, split_values

VARIANT = "variant"  # the axis of a file's named variants; no field of an experiment


@dataclasses.dataclass(frozen=True)
class Axis:
    """A field and the values it takes.

    Attributes:
        path: of the field, or `variant`.
        values: as the user wrote them.
    """

    path: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One combination of values, run with every seed.

    Attributes:
        label: what tells it from the others: `rate=0.3 layers=4`.
        experiment: what runs, but for the seed.
    """

    label: str
    experiment: Experiment


def read_axes(over: Sequence[str]) -> list[Axis]:
    """The axes of some `path=a,b` texts; `variant` comes first, since the others build on it.

    Raises:
        UserError: no `=`, a path or value that comes twice, or a field that another option sets.
    """
    axes = []
    for text in over:
        path, equals, values = text.partition("=")
        if not equals or not path.strip():
            raise UserError(f"--over {text}: write PATH=VALUE,VALUE, as in objective.rate=0.15,0.3")
        axes.append(Axis(path.strip().replace("-", "_"), tuple(split_values(values))))
    for axis in axes:
        if (twice := Counter(axis.values).most_common(1)[0])[1] > 1:
            raise UserError(f"--over {axis.path}: the value {twice[0]!r} comes twice")
        if axis.path == "loop.seed":
            raise UserError("--over loop.seed: seeds are counted by --seeds N")
    if (twice := Counter(axis.path for axis in axes).most_common(1)) and twice[0][1] > 1:
        raise UserError(f"--over {twice[0][0]} is given twice; list all its values in one")
    return sorted(axes, key=lambda axis: axis.path != VARIANT)


def expand(name: str, axes: Sequence[Axis]) -> list[Variant]:
    """Every combination of the axes' values on an experiment, the last axis fastest.

    An axis with a single value changes every combination and stands in no label.

    Args:
        name: `file.py`, `file.py:variant` or an `experiment.json`; the axis `variant` applies the
            file's variants to it.
        axes: from `read_axes`.

    Raises:
        UserError: an unknown path or variant, a value the field cannot take, or two
            combinations that are the same experiment.
    """
    base, path = load_experiment(name), name.partition(":")[0]
    variants = experiment_file(path)[1] if axes and axes[0].path == VARIANT else {}
    several = [axis.path for axis in axes if len(axis.values) > 1]
    grid, seen = [], {}
    for values in itertools.product(*(axis.values for axis in axes)):
        chosen = dict(zip((axis.path for axis in axes), values, strict=True))
        experiment = base
        for field, value in chosen.items():
            if field == VARIANT:
                experiment = apply_variant(name, base, variants, value)
            else:
                experiment = _override(experiment, field, value)
        label = _label(several, chosen) or stem(name)
        if experiment in seen:
            raise UserError(f"{label} and {seen[experiment]} are the same experiment")
        seen[experiment] = label
        grid.append(Variant(label, experiment))
    return grid


def stem(name: str) -> str:
    """A short name of `file.py:variant`: `file_variant`."""
    path, _, variant = name.partition(":")
    return Path(path).stem + (f"_{variant}" if variant else "")


def _override(experiment: Experiment, path: str, value: str) -> Experiment:
    try:
        return override(experiment, path, value)
    except UserError as error:
        raise UserError(f"--over {error}") from None


def _label(several: list[str], chosen: Mapping[str, str]) -> str:
    """`rate=0.3 layers=4`: the last part of each path that varies, or all of it if that is
    ambiguous."""
    last = Counter(path.rpartition(".")[2] for path in several)
    parts = []
    for path in several:
        name = path.rpartition(".")[2]
        shown = name if last[name] == 1 else path
        parts.append(chosen[path] if path == VARIANT else f"{shown}={chosen[path]}")
    return " ".join(parts)


def shard(text: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """Which part of the cells this process runs: the number of the part, and of all parts.

    Args:
        text: `i/n`, i from 0; empty for the place in a SLURM job array, or for all cells.
        environment: where SLURM says what place that is.

    Raises:
        UserError: not such a text, i outside 0 to n - 1, or an array of irregular numbers.
    """
    if text:
        first, slash, last = text.partition("/")
        if not (slash and first.isdigit() and last.isdigit() and int(first) < int(last)):
            raise UserError(f"--shard is {text!r}; write i/n with i from 0 to n - 1, as in 0/4")
        return int(first), int(last)
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return 0, 1
    task, count, lowest, highest = (
        int(environment.get(f"SLURM_ARRAY_TASK_{name}", other))
        for name, other in (("ID", "0"), ("COUNT", "1"), ("MIN", "0"), ("MAX", "0"))
    )
    step = 1 if count < 2 else (highest - lowest) / (count - 1)
    index = (task - lowest) / step
    if index != int(index) or not 0 <= index < count:
        raise UserError(
            f"the numbers of this SLURM array ({lowest} to {highest}, {count} of them) are not "
            "evenly spaced; number it 0-N or give each job its --shard i/n"
        )
    return int(index), count
