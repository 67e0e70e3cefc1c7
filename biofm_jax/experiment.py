"""An experiment: the record of a run, from which every part of it is built."""

import dataclasses
import difflib
import json
import runpy
from pathlib import Path
from typing import Any

import jax

from biofm_jax import specs
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.api import DataSpec, ExampleData
from biofm_jax.errors import UserError
from biofm_jax.evaluate.provenance import provenance
from biofm_jax.files import refuse_address, write_whole
from biofm_jax.models.spec import ModelSpec
from biofm_jax.objectives.api import ObjectiveSpec
from biofm_jax.train import hosts
from biofm_jax.train.checkpoint import Checkpoints
from biofm_jax.train.lock import locked
from biofm_jax.train.loop import Fit, LoopSpec, fit
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.placement import host_rows
from biofm_jax.train.step import Program, build_program
from biofm_jax.zoo.store import is_stored, load_stored

EXPERIMENT, RUN = "experiment.json", "run.json"

# What may change between a run and its continuation: where it runs and how often it looks.
FREE = ("mesh", "tasks", "loop.steps", "loop.log_every", "loop.eval_every",
        "loop.checkpoint_every", "loop.keep", "loop.accumulate", "loop.on_nonfinite",
        "loop.skip_budget",
        *(f"model.{stack}{field}" for stack in ("", "encoder.", "decoder.", "first.", "second.")
          for field in ("backend", "scan", "remat")))  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that decides a run.

    Attributes:
        model: the architecture.
        data: what it is trained on.
        objective: how it is trained.
        optimizer: optimizer and schedule.
        mesh: how devices share the work.
        loop: length and intervals.
        tasks: what the trained model is worth looking at on (`biofm evaluate --task`).
    """

    model: ModelSpec
    data: DataSpec
    objective: ObjectiveSpec
    optimizer: OptimizerSpec = OptimizerSpec()
    mesh: MeshSpec = MeshSpec()
    loop: LoopSpec = LoopSpec()
    tasks: tuple[str, ...] = ()

    def check(self, devices: int) -> None:
        """Find an impossible combination before anything is allocated or read.

        Args:
            devices: number of devices the mesh is laid over.

        Raises:
            UserError: names the fields and the fix.
        """
        self.optimizer.rate(self.loop.steps)
        sizes = self.mesh.sizes(devices)
        self.loop.check(sizes[0] * sizes[1])
        self.model.check(self.data, sizes)
        self.objective.check(self.model, self.data)

    def shapes(self, rows: int | None = None) -> Any:
        """The shapes of the run's global batch, or of one with so many rows."""
        rows = self.loop.batch_size if rows is None else rows
        return self.data.shapes(rows, paired=self.objective.views > 0)

    def to_json(self) -> dict:
        """The experiment as plain JSON values."""
        return specs.encode(self)

    @staticmethod
    def from_json(value: dict) -> "Experiment":
        """The inverse of `to_json`."""
        return specs.decode(value)

    def program(self, mesh, batch) -> Program:
        """The run's functions, for a batch of arrays or shapes; nothing is allocated."""
        return build_program(
            self.model.build(),
            self.objective.built_for(self.model, self.data),
            lambda axes: self.optimizer.build(self.loop.steps, axes),
            mesh,
            batch,
            self.loop.accumulate,
        )


def load_experiment(name: str) -> Experiment:
    """Read `file.py`, `file.py:variant`, or the `experiment.json` that a run wrote.

    The file ends in `experiment = Experiment(...)` and may have `variants`, a dict of
    experiments or of functions of the experiment.

    Raises:
        UserError: no such file or variant, or the file defines no experiment.
    """
    path, _, variant = name.partition(":")
    experiment, variants = experiment_file(path)
    return apply_variant(name, experiment, variants, variant) if variant else experiment


def experiment_file(path: str) -> tuple[Experiment, dict]:
    """The experiment of a Python file and its variants, or that of a run's record.

    Raises:
        UserError: no such file, or it defines no experiment.
    """
    if not Path(path).is_file():
        near = difflib.get_close_matches(
            path, [str(p) for p in Path(".").glob("experiments/**/*.py")], 1
        )
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"there is no experiment file {path}{hint}")
    if path.endswith(".json"):
        return Experiment.from_json(_read_json(Path(path))), {}
    found = runpy.run_path(path)
    experiment = found.get("experiment")
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path} must end in `experiment = Experiment(...)`")
    return experiment, found.get("variants", {})


def apply_variant(name: str, base: Experiment, variants: dict, variant: str) -> Experiment:
    """A variant of an experiment.

    Args:
        name: of the experiment, `file.py` or `file.py:variant`.
        base: that experiment.
        variants: of its file.
        variant: a key of `variants`.

    Raises:
        UserError: no such variant, or a whole experiment where `base` is itself a variant.
    """
    path, _, already = name.partition(":")
    if variant not in variants:
        raise UserError(
            f"{path} has no variant {variant!r}; it has {', '.join(variants) or 'none'}"
        )
    chosen = variants[variant]
    if callable(chosen):
        return chosen(base)
    if already not in ("", variant):
        raise UserError(
            f"{path}: the variant {variant!r} is a whole experiment and cannot be applied to "
            f"{already!r}; write it as a function of an experiment"
        )
    return chosen


def train(
    experiment: Experiment, workdir: Path, *, show: bool = True, start: Encoder | None = None
) -> Fit:
    """Run an experiment, or go on with it where `workdir` holds a checkpoint.

    Writes `experiment.json`, `run.json` (versions, commit, command, devices), `metrics.jsonl`,
    `curve.png`, `tensorboard/` and `checkpoints/` into the workdir.

    Args:
        experiment: of the run.
        workdir: its folder.
        show: whether to show progress.
        start: whose parameters the run begins with; None: random ones.

    Raises:
        UserError: an impossible combination, bad data, a workdir of another experiment or in
            use, or hosts whose data differ.
    """
    experiment.check(jax.device_count())
    refuse_address(workdir, "--workdir")
    with locked(workdir):
        hosts.on_first("workdir", lambda: _claim(workdir, experiment, start))
        store = experiment.data.open()
        experiment.model.check_opened(store)
        hosts.agree("the data", store.digest())
        loop, mesh = experiment.loop, experiment.mesh.build()
        order = {"batch_size": loop.batch_size, "seed": loop.seed}
        order["share"] = host_rows(mesh, loop.batch_size)

        def held_out():
            return experiment.data.batches(store, epochs=1, holdout=True, **order)

        return fit(
            experiment.model.build(),
            experiment.objective.built_for(experiment.model, experiment.data),
            experiment.data.batches(store, **order),
            optimizer=experiment.optimizer,
            mesh=mesh,
            loop=loop,
            workdir=workdir,
            # From the one device of an encoder to the host, whence any mesh takes them.
            params=None if start is None else jax.device_get(start.params),
            held_out=held_out if experiment.data.holdout > 0 else None,
            experiment=experiment.to_json(),
            title=workdir.name,
            show=show,
            unit=experiment.data.counted,
        )


def describe(experiment: Experiment) -> dict:
    """What a run would be: checked and traced, with nothing read, written or allocated.

    Raises:
        UserError: as `Experiment.check`.
    """
    experiment.check(jax.device_count())
    shapes = experiment.shapes()
    program = experiment.program(experiment.mesh.build(), shapes)
    jax.eval_shape(program.step, program.shapes, shapes)
    count = sum(leaf.size for leaf in jax.tree.leaves(program.shapes.params))
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.shapes))
    rows, tokens = shapes.tokens.shape
    unit = experiment.data.unit
    return {
        "objective": type(experiment.objective).__name__,
        "data": experiment.data.path or "(set --data.path)",
        "parameters": count,
        "state_MiB": round(state / 2**20, 1),
        "batch": f"{rows} rows x {tokens} {unit}",
        "steps": experiment.loop.steps,
        unit: experiment.loop.steps * rows * tokens,
        "mesh": ", ".join(f"{n} {s}" for n, s in experiment.mesh.build().shape.items()),
    }


def _claim(workdir: Path, experiment: Experiment, start: Encoder | None) -> None:
    """Write the run's records, or refuse a workdir that another experiment started."""
    began = None if start is None else start.name
    if (workdir / RUN).is_file() and (before := _read_json(workdir / RUN).get("start")) != began:
        raise UserError(
            f"{workdir} began from {before or 'random parameters'}, not from "
            f"{began or 'random parameters'}; give the same --start, or another --workdir"
        )
    path = workdir / EXPERIMENT
    if changed := changed_fields(path, experiment, FREE):
        raise UserError(
            f"{workdir} belongs to another experiment ({'; '.join(changed[:5])}); choose "
            "another --workdir, or give the same options to go on with that one"
        )
    write_whole(path, json.dumps(experiment.to_json(), indent=1) + "\n")
    record = provenance() | {"start": began, "counted": experiment.data.counted}
    write_whole(workdir / RUN, json.dumps(record, indent=1) + "\n")


def changed_fields(path: Path, experiment: Experiment, free: tuple[str, ...]) -> list[str]:
    """What differs between the experiment that a run recorded and another one.

    Args:
        path: an `experiment.json`; nothing differs where there is none.
        experiment: to compare with it.
        free: beginnings of field paths that may differ.

    Returns:
        `model.width: 64 there, 32 here` for each difference. Fields younger than the file are
        there at their defaults.
    """
    if not path.exists():
        return []
    before = specs.flatten(Experiment.from_json(_read_json(path)).to_json())
    now = specs.flatten(experiment.to_json())
    return [
        f"{name}: {before.get(name)} there, {now.get(name)} here"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and not name.startswith(free)
    ]


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no experiment: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is no experiment: it holds no JSON object")
    return value


def _located(value: dict, workdir: Path) -> dict:
    """The same with `data.tokenizer_path` looked up in the run's own folder first."""
    data = value.get("data")
    if isinstance(data, dict) and (name := data.get("tokenizer_path")):
        inside = workdir / name
        if not Path(name).is_absolute() and inside.is_dir():
            return value | {"data": data | {"tokenizer_path": str(inside)}}
    return value


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run, or an experiment that was not run.

    Attributes:
        name: as printed in tables.
        experiment: its record.
        params: the trained parameters; None: none were trained.
    """

    name: str
    experiment: Experiment
    params: Any = None


def load_run(name: str) -> Run:
    """A run with its parameters, on one device.

    Args:
        name: the folder of a run, for its last checkpoint; `FOLDER@best` for the one with the
            lowest held-out loss; `random:EXPERIMENT.py[:variant]` for an untrained control.

    Raises:
        UserError: no run, checkpoint or experiment of that name.
    """
    if name.startswith("random:"):
        return Run(name, load_experiment(name.removeprefix("random:")))
    folder, _, which = name.partition("@")
    workdir = Path(folder)
    path = workdir / EXPERIMENT
    if which not in ("", "best") or not path.is_file():
        raise UserError(
            f"{name} is no run: {path} does not exist. Give the --workdir of a finished "
            "`biofm train` (or FOLDER@best), the folder of a `biofm import`, or "
            "random:EXPERIMENT.py"
        )
    experiment = Experiment.from_json(_located(_read_json(path), workdir))
    one = MeshSpec(data=1).build(jax.devices()[:1])
    program = experiment.program(one, experiment.shapes(rows=experiment.loop.accumulate))
    checkpoints = Checkpoints(workdir / "checkpoints")
    step = checkpoints.best() if which else None
    if which and step is None:
        raise UserError(
            f"{workdir} measured no held-out loss, so none of its checkpoints is the best; train "
            "with --loop.eval_every, or leave @best away"
        )
    found = checkpoints.restore(program.shapes, program.shardings, step, only="params")
    checkpoints.close()
    if found is None:
        raise UserError(f"{workdir} has no checkpoint yet; let `biofm train` reach one")
    return Run(workdir.name, experiment, found.state.params)


def load_encoder(name: str) -> Encoder:
    """A model of texts, molecules or images, ready for adaptation.

    Args:
        name: as of `load_run`, or the folder of an import.

    Raises:
        UserError: as `load_run`; a model that reads no such examples.
    """
    if is_stored(Path(name)):
        return _stored_encoder(Path(name))
    run = load_run(name)
    data = run.experiment.data
    if not isinstance(data, ExampleData):
        raise UserError(
            f"{name} was trained on {data.kind}, not on examples; `biofm --help` names the verb "
            "for it (repurpose for a knowledge graph)"
        )
    return Encoder(run.name, run.experiment.model, data, run.params)


def _stored_encoder(folder: Path) -> Encoder:
    stored = load_stored(folder)
    if stored.data is None:
        raise UserError(
            f"{folder} was imported without a tokenizer, so no text can be read with it: import "
            "it again with --tokenizer FOLDER (models of cells and records: `biofm export` only)"
        )
    return Encoder(folder.name, stored.spec, stored.data, stored.params())
