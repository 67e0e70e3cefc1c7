"""Runs of several real processes on one machine, each with simulated devices of its own."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]

# Planted faults are Python that runs in one process before the command.
START = "import sys\n{plant}\nfrom biofm_jax.cli import main\nsys.exit(main(sys.argv[1:]))"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_proteins(path: Path, count: int = 200) -> Path:
    rng = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    records = ["".join(rng.choice(letters, rng.integers(5, 60))) for _ in range(count)]
    path.write_text("".join(f">p{i}\n{record}\n" for i, record in enumerate(records)))
    return path


@dataclasses.dataclass
class Processes:
    """Processes that were started together; to be ended by `finish` or `kill`."""

    running: list[subprocess.Popen]

    def finish(self, seconds: float = 240) -> list[tuple[int, str]]:
        """(exit code, output) of each; one that is still there at the end is an error."""
        end, found = time.monotonic() + seconds, []
        try:
            for process in self.running:
                output, _ = process.communicate(timeout=max(1, end - time.monotonic()))
                found.append((process.returncode, output))
        finally:
            self.kill()
        return found

    def kill(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()

    def until(self, condition, seconds: float = 240) -> None:
        """Wait until it holds; none of the processes may end before."""
        end = time.monotonic() + seconds
        while not condition():
            ended = [process for process in self.running if process.poll() is not None]
            if ended or time.monotonic() > end:
                self.kill()
                told = "\n".join(process.communicate()[0][-3000:] for process in self.running)
                raise AssertionError(f"the run did not get that far:\n{told}")
            time.sleep(0.01)


class Command:
    """Starts `biofm` as several processes.

    Args:
        folder: of the compile cache that all of them share.
        devices: simulated devices of each process.
    """

    def __init__(self, folder: Path, devices: int = 4):
        self.settings = {
            "BIOFM_CACHE": str(folder / "cache"),
            "BIOFM_CHECK_TYPES": "0",
            "BIOFM_JOIN_TIMEOUT": "60",
            "COLUMNS": "200",
            "TF_CPP_MIN_LOG_LEVEL": "1",
            "PYTHONPATH": str(ROOT),
            # Compiling is most of what such a run does: unoptimised, and each program once.
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
            "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
        }

    def start(
        self,
        arguments: list,
        count: int = 2,
        plants: Mapping[int, str] | None = None,
        numbers: list[int] | None = None,
        **settings: str,
    ) -> Processes:
        """Start processes 0 to count - 1, or those of the given numbers alone.

        Args:
            arguments: of the command.
            count: what each is told of the number of processes.
            plants: code that a process runs first, by its number.
            numbers: of the processes to start.
            settings: more environment variables.
        """
        together = {
            "BIOFM_COORDINATOR": f"127.0.0.1:{free_port()}",
            "BIOFM_PROCESSES": str(count),
        }
        together = {} if count == 1 else together
        running = []
        for number in range(count) if numbers is None else numbers:
            own = {} if count == 1 else {"BIOFM_PROCESS_ID": str(number)}
            running.append(
                subprocess.Popen(
                    [sys.executable, "-c", START.format(plant=(plants or {}).get(number, ""))]
                    + [str(argument) for argument in arguments],
                    cwd=ROOT,
                    env=os.environ | self.settings | together | own | settings,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return Processes(running)


def rows(workdir: Path) -> dict[int, dict]:
    """The logged rows by step; none is there twice."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = {}
    for row in map(json.loads, lines):
        assert row["step"] not in found, f"step {row['step']} was logged twice"
        found[row["step"]] = row
    return found


def steps(workdir: Path) -> int:
    """Lines of metrics.jsonl so far."""
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def saved(workdir: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    folder = workdir / "checkpoints"
    found = folder.iterdir() if folder.exists() else ()
    return sorted(int(path.name) for path in found if path.name.isdigit())
