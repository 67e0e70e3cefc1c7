"""Checkpoints: the state, the data iterator and the experiment, whole or not at all.

Orbax writes each one to a temporary folder in the background and renames it when complete,
so a kill during a save leaves the previous checkpoint as the newest. A checkpoint is readable
on any mesh: it stores whole arrays, and `restore` asks for them in the reader's shardings.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from biofm_jax.errors import UserError
from biofm_jax.train import hosts

log = logging.getLogger("biofm_jax")

policies = ocp.checkpoint_managers.preservation_policy


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint read back.

    Attributes:
        step: steps done when it was saved.
        state: the tree that was asked for, on the devices that were asked for. Where only one
            field was asked for, the leaves of the others are Ellipsis.
        record: the JSON that was saved with it (`data`: the iterator's state, `experiment`).
        skipped: newer steps that could not be read, with the reason.
    """

    step: int
    state: Any
    record: dict
    skipped: dict[int, str]


class Checkpoints:
    """The checkpoints of a run in a folder.

    Args:
        folder: where they lie; made if needed.
        keep: how many of the last ones to keep; the one with the best validation loss is kept
            as well.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = Path(folder).absolute()
        self._losses: dict[int, float] = {}
        self._manager = _Manager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(
                    [policies.LatestN(keep), _Best(self)]
                ),
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            ),
            # Trained floats hardly compress, and the attempt costs the step its cores.
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(use_compression=False),
                "record": ocp.JsonCheckpointHandler(),
            },
        )
        for step in self.steps():
            with contextlib.suppress(Exception):  # damaged: `restore` tells, nothing is lost
                self._losses[step] = self._record(step)["validation_loss"]

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, oldest first."""
        self._manager.reload()
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """The step with the lowest validation loss, or None where none was measured."""
        measured = {step: self._losses[step] for step in self.steps() if step in self._losses}
        return min(measured, key=measured.get, default=None)

    def save(self, step: int, state, record: dict, validation_loss: float | None = None) -> None:
        """Start saving; returns as soon as the state is copied off the devices.

        Args:
            step: steps done.
            state: tree of arrays; may be donated after the call.
            record: JSON-able facts: the data iterator's state, the experiment.
            validation_loss: for keeping the best.

        Raises:
            CheckpointError: an earlier save failed (a full disk); older checkpoints are whole.
        """
        record = record | {"checksum": np.asarray(checksum(state)).tolist()}
        if validation_loss is not None:
            record["validation_loss"] = self._losses[step] = validation_loss
        record = record | {"digest": _digest(record)}
        with _explained(self):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(state), record=ocp.args.JsonSave(record)
                ),
                force=True,
            )

    def wait(self) -> None:
        """Wait until the save in the background is complete; raises as `save` does."""
        with _explained(self):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Wait and free the background threads."""
        self.wait()
        self._manager.close()

    def restore(
        self, shapes, shardings, step: int | None = None, only: str | None = None
    ) -> Restored | None:
        """Read the newest whole checkpoint, or the one of a given step.

        Args:
            shapes: tree of ShapeDtypeStructs; its structure must be the saved one.
            shardings: the same tree of shardings: any mesh, not only the writer's.
            step: a certain checkpoint.
            only: the one field of a `TrainState` to read. "params" are a third of what Adam
                keeps, and all that a use of the model needs.

        Returns:
            What was read, or None where the folder holds no checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and none can be read.
        """
        candidates = self._agreed(self.steps()[::-1]) if step is None else [step]
        wanted = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            shardings,
        )
        if only is not None:
            wanted = _only(wanted, only)
        skipped = {}
        for candidate in candidates:
            state = record = reason = None
            try:
                state, record = self._read(candidate, wanted)
            except Exception as error:  # Orbax and TensorStore raise many kinds for a bad file
                reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            # Each process reads its own part: one that could not is an answer for all.
            reason = next((said for said in hosts.share("restore", reason) if said), None)
            if reason is None and not _unchanged(state, record["checksum"]):
                reason = "the checksum of the arrays is not the one that was saved"
            if reason is not None:
                log.warning("checkpoint %s/%s is damaged: %s", self.folder, candidate, reason)
                skipped[candidate] = reason
                continue
            if skipped:
                log.warning("going on from the newest whole checkpoint, step %d", candidate)
            return Restored(candidate, state, record, skipped)
        if skipped:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read: {skipped}. Nothing was changed; "
                "restore the folder from a copy, or start anew in another --workdir"
            )
        return None

    def _read(self, step, wanted):
        """This process's part of the state, and the record.

        Read through the handlers: the manager waits for all processes after a read, also for
        one that could not read and has gone on.
        """
        restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        state = ocp.PyTreeCheckpointHandler(use_compression=False).restore(
            self.folder / str(step) / "state",
            args=ocp.args.PyTreeRestore(wanted, restore_args=restore_args),
        )
        return state, self._record(step)

    def _record(self, step: int) -> dict:
        record = ocp.JsonCheckpointHandler().restore(self.folder / str(step) / "record")
        _check_digest(record)
        return record

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints newer than a step: damaged ones that a resume passed over."""
        for newer in self._agreed([s for s in self.steps() if s > step]):
            self._manager.delete(newer)

    def _agreed(self, steps: list[int]) -> list[int]:
        """The steps that process 0 sees, once all have looked and before one changes anything."""
        return hosts.share("steps", steps)[0]


class _Manager(ocp.CheckpointManager):
    """Leaves JAX's preemption service to the loop.

    Orbax asks it too, when a save ends in the background, with the step of that save. That takes
    this process's count of steps back, and the service could name one that all have passed.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


@dataclasses.dataclass
class _Best(policies.PreservationPolicy):
    """Keeps the checkpoint with the lowest validation loss, also of the run before a resume."""

    checkpoints: Checkpoints

    def should_preserve(self, checkpoints, *, context):
        losses = self.checkpoints._losses
        there = [info.step for info in checkpoints if info.step in losses]
        best = min(there, key=losses.get, default=None)
        return [info.step == best for info in checkpoints]


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read."""


class _explained:
    """Turns a failed write into a message that says what is still safe."""

    def __init__(self, checkpoints: Checkpoints):
        self.checkpoints = checkpoints

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None or isinstance(error, UserError | KeyboardInterrupt):
            return False
        steps = self.checkpoints.steps()
        kept = f"the checkpoint of step {steps[-1]} is whole" if steps else "there is none before"
        raise CheckpointError(
            f"saving a checkpoint to {self.checkpoints.folder} failed: {error}. {kept}; free "
            "some space and run the same command to go on from it"
        ) from error


def _digest(record: dict) -> str:
    """A fingerprint of a record: one changed digit of the data position would go unnoticed."""
    kept = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _check_digest(record: dict) -> None:
    if record.get("digest", _digest(record)) != _digest(record):
        raise CheckpointError("the record beside the arrays is not the one that was saved")


def _only(tree, name: str):
    """A dataclass with Orbax's mark for "leave this away" in all fields but one."""
    others = {f.name: getattr(tree, f.name) for f in dataclasses.fields(tree) if f.name != name}
    return dataclasses.replace(tree, **jax.tree.map(lambda _: ocp.PLACEHOLDER, others))


def _unchanged(state, saved: list[int]) -> bool:
    """Whether the arrays that were read have the checksums that were saved with the whole state."""
    leaves = jax.tree.leaves(state)
    if len(leaves) != len(saved):
        return False
    read = [i for i, leaf in enumerate(leaves) if leaf is not ocp.PLACEHOLDER]
    return np.asarray(checksum([leaves[i] for i in read])).tolist() == [saved[i] for i in read]


@jax.jit
def checksum(state) -> jax.Array:
    """A (n,) uint32 sum of each array's bits: the same on every mesh, and off for a flipped bit.

    File systems notice a missing file but not a changed byte, and neither does zarr.
    """

    def add(leaf):
        if leaf.dtype == jnp.bool_:  # which cannot be bitcast
            leaf = leaf.astype(jnp.uint8)
        bits = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
        words = jax.lax.bitcast_convert_type(leaf, bits).astype(jnp.uint32)
        return jnp.sum(words * jnp.uint32(2654435761) + (words >> 7), dtype=jnp.uint32)

    return jnp.stack([add(leaf) for leaf in jax.tree.leaves(state)])
