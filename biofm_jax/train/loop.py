"""The training loop: the only one. Pretraining, fine-tuning and ablations all call `fit`."""

import collections
import dataclasses
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from biofm_jax.errors import UserError
from biofm_jax.models.api import Model
from biofm_jax.objectives.api import Objective
from biofm_jax.train import hosts
from biofm_jax.train.checkpoint import Checkpoints
from biofm_jax.train.logging import ProgressBar, RunLog
from biofm_jax.train.mesh import row_shards
from biofm_jax.train.nonfinite import NonFiniteSteps
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.train.placement import global_shapes, to_devices
from biofm_jax.train.prefetch import Drawn, Prefetch
from biofm_jax.train.step import Base, Program, TrainState, build_program
from biofm_jax.train.stop import Stopped, StopSignal
from biofm_jax.train.stragglers import Pace

log = logging.getLogger("biofm_jax")


@dataclasses.dataclass(frozen=True)
class LoopSpec:
    """How long to train, and how often to look.

    Attributes:
        steps: optimizer updates of the whole run.
        batch_size: rows of packed tokens in a batch, over all devices and hosts.
        accumulate: microbatches a batch is cut into, to save memory; the result is the same.
        seed: of parameters, data order, masks and dropout.
        log_every: steps between rows of metrics.jsonl.
        eval_every: steps between measurements of the held-out loss; 0 for none.
        checkpoint_every: steps between checkpoints; the last step is always saved.
        keep: the number of last checkpoints kept, besides the best.
        on_nonfinite: `stop` at a step whose loss or gradient is not finite, or `skip` it: its
            update is left away.
        skip_budget: steps that may be skipped before the run stops.
    """

    steps: int = 1000
    batch_size: int = 32
    accumulate: int = 1
    seed: int = 0
    log_every: int = 10
    eval_every: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    on_nonfinite: Literal["stop", "skip"] = "stop"
    skip_budget: int = 10

    def check(self, row_shards: int) -> None:
        """Refuse numbers that make no run, and a batch that the mesh cannot cut.

        Args:
            row_shards: parts into which the mesh cuts the rows of a batch, data x fsdp.

        Raises:
            UserError: names the field and the nearest good value.
        """
        for name in ("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"loop.{name} is {getattr(self, name)}; it must be 1 or more")
        if self.eval_every < 0:
            raise UserError(f"loop.eval_every is {self.eval_every}; it must be 0 or more")
        NonFiniteSteps(self.on_nonfinite, self.skip_budget)
        parts = row_shards * self.accumulate
        if self.batch_size % parts:
            nearest = max(1, round(self.batch_size / parts)) * parts
            raise UserError(
                f"loop.batch_size {self.batch_size} must be divisible by data x fsdp x "
                f"loop.accumulate = {parts}; the nearest is {nearest}"
            )


@dataclasses.dataclass(frozen=True)
class Fit:
    """A finished run.

    Attributes:
        state: the final state, on the devices.
        rows: the logged metrics.
        best: parameters with the lowest held-out loss, where `keep_best` was asked for.
        compilations: how often the step was compiled; 1 unless shapes changed.
        resumed_from: the step of the checkpoint the run went on from, or None.
    """

    state: TrainState
    rows: list[dict]
    best: Any
    compilations: int
    resumed_from: int | None


def fit(
    model: Model,
    objective: Objective,
    batches,
    *,
    optimizer: OptimizerSpec,
    mesh,
    loop: LoopSpec,
    workdir: Path | None = None,
    held_out: Callable | None = None,
    params=None,
    base: Base | None = None,
    experiment: dict | None = None,
    title: str = "train",
    show: bool = True,
    keep_best: bool = False,
    unit: str = "tokens",
) -> Fit:
    """Train, or go on training where `workdir` holds a checkpoint.

    Args:
        model: pure init and apply.
        objective: pure loss.
        batches: an endless batch iterator with `state()`, `restore()` and `names()`; it yields
            this process's rows as numpy arrays.
        optimizer: optimizer and schedule.
        mesh: from `MeshSpec.build`.
        loop: length and intervals.
        workdir: where metrics, curve and checkpoints go, `locked` by the caller; None keeps
            everything in memory.
        held_out: makes a finite batch iterator for the held-out loss.
        params: start from these (numpy or jax arrays) instead of random ones.
        base: parameters beside them that are not trained (`build_program`).
        experiment: JSON-able description stored in each checkpoint.
        title: shown beside the progress bar.
        show: whether to show progress.
        keep_best: keep a copy of the parameters with the lowest held-out loss.
        unit: what a token of a batch is, as the progress shows it.

    Returns:
        The final state and the log.

    Raises:
        UserError: a batch or mesh that does not fit.
        NonFiniteLoss: names the step, its records and the last good checkpoint.
        Stopped: after SIGTERM or Ctrl-C.
        CheckpointError: a save failed, or no checkpoint can be read.
    """
    loop.check(row_shards(mesh))
    # The first batch is drawn for its shapes only, and drawn again by the run.
    begin = batches.state()
    shapes = global_shapes(mesh, next(batches))
    batches.restore(begin)
    program = build_program(
        model,
        objective,
        lambda axes: optimizer.build(loop.steps, axes),
        mesh,
        shapes,
        loop.accumulate,
        base,
        loop.on_nonfinite == "skip",
    )
    frozen = () if base is None else (jax.device_put(base.params, *program.base_shardings),)
    with jax.set_mesh(mesh):
        checkpoints = None if workdir is None else Checkpoints(workdir / "checkpoints", loop.keep)
        run = _Run(
            program, frozen, checkpoints, batches, mesh, loop, experiment or {}, held_out, keep_best
        )
        try:
            resumed = run.start(params)
            run.log = RunLog(workdir if hosts.is_first() else None, run.step)
            run.train(ProgressBar(title, loop.steps, run.step, show and hosts.is_first(), unit))
        except BaseException as error:
            if not isinstance(error, Stopped):
                hosts.failing(error)  # before `close`, which waits for a save of all of them
            raise
        finally:
            run.close()
    compilations = program.step._cache_size()
    if compilations > 1:
        log.warning("the training step was compiled %d times: shapes changed", compilations)
    return Fit(run.state, run.log.rows, run.best, compilations, resumed)


class _Run:
    """The moving parts of one call of `fit`."""

    def __init__(
        self, program, frozen, checkpoints, batches, mesh, loop, experiment, held_out, keep_best
    ):
        self.program: Program = program
        self.frozen: tuple = frozen
        self.checkpoints: Checkpoints | None = checkpoints
        self.batches, self.mesh, self.loop = batches, mesh, loop
        self.experiment, self.held_out, self.keep_best = experiment, held_out, keep_best
        self.step = 0
        self.data_state = batches.state()
        self.saved: int | None = None
        self.best, self.best_loss = None, math.inf
        self.validation_loss: float | None = None
        self.measured: dict[int, float] = {}
        self.pending: collections.deque = collections.deque()
        self.tokens, self.since, self.rate = 0, time.monotonic(), 0.0
        self.stop, self.pace = StopSignal(), Pace()
        self.nonfinite = NonFiniteSteps(loop.on_nonfinite, loop.skip_budget)
        self.log: RunLog = RunLog(None)

    def start(self, params) -> int | None:
        """Take the newest whole checkpoint, the given parameters, or random ones."""
        found = None
        if self.checkpoints is not None:
            found = self.checkpoints.restore(self.program.shapes, self.program.shardings)
        if found is not None:
            self.checkpoints.drop_after(found.step)
            self.state, self.step = found.state, found.step
            self.data_state, self.saved = found.record["data"], found.step
            self.nonfinite.skipped = found.record.get("skipped", 0)
            self.batches.restore(self.data_state)
            log.info("going on from step %d", self.step)
            return found.step
        if params is None:
            self.state = self.program.init(self.loop.seed)
        else:
            self.state = self.program.adopt(self.loop.seed, params)
        return None

    def train(self, bar: ProgressBar) -> None:
        """The loop: draw, step, look now and then, save now and then."""
        loop = self.loop
        drawn = Prefetch(self.batches, lambda batch: to_devices(self.mesh, batch))
        try:
            with bar, self.stop:
                while self.step < loop.steps:
                    # 1. The next batch, already on the devices.
                    item: Drawn = next(drawn)
                    # 2. One step. Only what was put on the devices on purpose may be used.
                    self.pace.begin()
                    with jax.transfer_guard("disallow"):
                        self.state, metrics = self.program.step(
                            self.state, item.batch, *self.frozen
                        )
                    self.pace.given(metrics)
                    self.step += 1
                    self.tokens += item.tokens * loop.batch_size // len(item.host.tokens)
                    self.data_state = item.state
                    # 3. Read the metrics of the steps before this one, while this one runs.
                    if (self.step - 1) % loop.log_every == 0:
                        self._flush(bar)
                    self.pending.append((self.step, metrics, item.host))
                    bar.advance(self.step)
                    # 4. The held-out loss, before a save that may be the best one. Who is asked
                    #    to stop has a short time to save: then this point is left out.
                    last = self.step == loop.steps
                    due = loop.eval_every and (self.step % loop.eval_every == 0 or last)
                    if due and not self.stop.asked(self.step):
                        self._evaluate()
                        self._flush(bar)
                    # 5. A checkpoint; only of a state that is known to be finite.
                    stop = self.stop.asked(self.step)
                    if self.step % loop.checkpoint_every == 0 or last or stop:
                        self._flush(bar)
                        self._save()
                    if stop and not last:
                        raise Stopped(self.stop.message(self.step, self.checkpoints is not None))
        finally:
            drawn.close()

    def close(self) -> None:
        """Finish the save in the background, close the files."""
        try:
            self.pace.close()
            if self.checkpoints is not None:
                self.checkpoints.close()
        finally:
            self.log.close()

    def _flush(self, bar) -> None:
        """Bring the metrics of the pending steps to the host, check them, log the due ones."""
        if not self.pending:
            return
        steps, metrics, batches = zip(*self.pending, strict=True)
        self.pending.clear()
        fetched = jax.device_get(metrics)
        if self.tokens:
            now = time.monotonic()
            self.rate, self.tokens, self.since = self.tokens / (now - self.since), 0, now
        for step, values, batch in zip(steps, fetched, batches, strict=True):
            values = {name: float(value) for name, value in values.items()}
            loss = values["loss"]
            if not self.nonfinite.passed(step, values, self.batches.names(batch), self.saved):
                values = {"weight": values["weight"]}  # NaN is no JSON, and no point of a curve
            if step in self.measured:
                values["validation_loss"] = self.measured.pop(step)
            elif step % self.loop.log_every and step != self.loop.steps:
                continue
            if self.loop.on_nonfinite == "skip":
                values["skipped"] = self.nonfinite.skipped
            rates = {"tokens_per_second": self.rate, **self.pace.look(step)}
            self.log.write({"step": step, **values, **rates})
            bar.note(step, loss, self.rate)

    def _evaluate(self) -> None:
        """The mean loss over the held-out records."""
        if self.held_out is None:
            return
        total = weight = 0.0
        jax.block_until_ready(self.state.step)
        began = time.monotonic()
        for batch in self.held_out():
            if self.stop.alone_and_asked:
                return
            placed = to_devices(self.mesh, batch)
            part = jax.device_get(self.program.evaluate(self.state, placed, *self.frozen))
            total, weight = total + float(part[0]), weight + float(part[1])
        loss = total / max(weight, 1e-9)
        self.since += time.monotonic() - began  # tokens/s is of training alone
        self.pace.rest()
        self.validation_loss = self.measured[self.step] = loss
        if self.keep_best and loss < self.best_loss:
            self.best_loss = loss
            self.best = jax.tree.map(jnp.copy, self.state.params)

    def _save(self) -> None:
        if self.checkpoints is None or self.saved == self.step:
            return
        record = {"data": self.data_state, "experiment": self.experiment}
        record["skipped"] = self.nonfinite.skipped
        self.pace.rest()
        self.checkpoints.save(self.step, self.state, record, self.validation_loss)
        self.saved, self.validation_loss = self.step, None
