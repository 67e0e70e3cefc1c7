"""The processes of a cell: one that trains it and one that evaluates it, with one log file."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from biofm_jax.experiment import EXPERIMENT
from biofm_jax.files import write_whole
from biofm_jax.sweep.cells import FAILURE, LOG, Cell, Work
from biofm_jax.train.stop import StopSignal

# A child may have had the same signal from the terminal or the batch system, and a second one
# of the same kind would end it before it has saved.
OTHER = {signal.SIGTERM: signal.SIGINT, signal.SIGINT: signal.SIGTERM}


def run_cell(cell: Cell, work: Work, claim: int, stop: StopSignal) -> str:
    """Train what is not trained and evaluate what is not evaluated.

    Args:
        cell: its folder is claimed.
        work: what to evaluate.
        claim: from `claimed`; the children hold it too, so that a child that outlives this
            process keeps the cell.
        stop: a signal that comes is handed on, and the child saves.

    Returns:
        Why the cell failed, which is also kept in its folder; empty if it is finished or was
        stopped by the signal.
    """
    (cell.folder / FAILURE).unlink(missing_ok=True)
    write_whole(cell.folder / EXPERIMENT, json.dumps(cell.experiment.to_json(), indent=1) + "\n")
    stages = [] if cell.trained() else [train_command(cell)]
    stages += [evaluate_command(cell, work)] if cell.missing(work) else []
    for command in stages:
        error = _run(command, cell.folder / LOG, claim, stop)
        if stop.number is not None:
            return ""
        if error:
            write_whole(cell.folder / FAILURE, json.dumps({"error": error}) + "\n")
            return error
    return ""


def train_command(cell: Cell) -> list[str]:
    """`biofm train` of the cell's record into the cell's folder."""
    record = str(cell.folder / EXPERIMENT)
    return _biofm("cli", "train", record, "--workdir", str(cell.folder))


def evaluate_command(cell: Cell, work: Work) -> list[str]:
    """The evaluation of a trained cell, for the pairs that are missing."""
    job = {
        "workdir": str(cell.folder),
        "label": cell.label,
        "seed": cell.seed,
        "results": str(work.results),
        "command": work.command,
        "evaluated": [work.key(*pair) for pair in cell.missing(work)],
    }
    return _biofm("sweep.evaluation", json.dumps(job))


def _biofm(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"biofm_jax.{module}", *arguments]


def _run(command: Sequence[str], log: Path, claim: int, stop: StopSignal) -> str:
    """Run a process with its output in a file; returns why it failed, or an empty text."""
    with log.open("a") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        begin, handed = file.tell(), False
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, pass_fds=(claim,)
        )
        try:
            while (code := _wait(process)) is None:
                if stop.number is not None and not handed:
                    process.send_signal(OTHER[stop.number])
                    handed = True
        finally:
            if process.poll() is None:  # a second Ctrl-C: at once
                process.kill()
                process.wait()
    if code == 0:
        return ""
    with log.open() as file:
        file.seek(begin)
        said = [line.strip() for line in file if line.strip()]
    last = said[-1][:400] if said else "nothing was printed"
    if code < 0:
        name = signal.Signals(-code).name
        why = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"killed by {name}{why}; last line: {last}"
    return last


def _wait(process: subprocess.Popen) -> int | None:
    """The exit code, or None if the process still runs after a moment."""
    try:
        return process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return None
