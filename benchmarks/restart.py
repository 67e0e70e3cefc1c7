"""Goal 8: how much sooner a program learns on its second start.

`biofm train` of ESM-2 8M, 4 x 256 tokens, from the start of the process to the end of its first
step, on an empty compile cache and on the one that the first start filled. Each start has a new
workdir; the data are prepared before.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.inputs import LETTERS
from benchmarks.results import FOLDER, Row, judged, run_part

ROUNDS = 3
REPOSITORY = FOLDER.parent
BIOFM = (sys.executable, "-c", "import sys; from biofm_jax.cli import main; sys.exit(main())")


def measure() -> list[Row]:
    """Start in turn without and with a filled cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_proteins(folder / "proteins.fasta")
        first_step(folder)  # prepares the data
        cold, second = [], []
        for number in range(ROUNDS):
            shutil.rmtree(folder / "cache" / "compiled")
            cold.append(first_step(folder))
            second.append(first_step(folder))
            print(
                f"   round {number + 1} of {ROUNDS}: cold {cold[-1]:.1f} s, "
                f"second {second[-1]:.1f} s",
                flush=True,
            )
    slow, fast = statistics.median(cold), statistics.median(second)
    figure = "ESM-2 8M, process to first step, second start over cold start"
    note = f"{fast:.1f} s against {slow:.1f} s"
    return [judged("restart", 8, figure, fast / slow, at_most=0.45, note=note,
                   cold=cold, second=second)]  # fmt: skip


def write_proteins(path: Path, count: int = 500) -> None:
    """A FASTA file of random proteins of 50 to 254 residues."""
    draw = random.Random(0)
    records = [
        f">protein{i}\n{''.join(draw.choices(LETTERS, k=draw.randint(50, 254)))}\n"
        for i in range(count)
    ]
    path.write_text("".join(records))


def first_step(folder: Path) -> float:
    """Seconds from the start of `biofm train` until the metrics of its first step are there."""
    workdir = folder / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    command = [
        *BIOFM, "train", str(REPOSITORY / "experiments/computational_biology/esm2_masked.py"),
        "--data.path", str(folder / "proteins.fasta"), "--data.max-tokens", "256",
        "--loop.batch-size", "4", "--loop.steps", "1", "--loop.log-every", "1",
        "--loop.eval-every", "0", "--workdir", str(workdir),
    ]  # fmt: skip
    environment = os.environ | {"BIOFM_CACHE": str(folder / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    metrics = workdir / "metrics.jsonl"
    with open(folder / "output", "w") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env=environment, cwd=REPOSITORY, stdout=output, stderr=output
        )
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.01)
        seconds = time.monotonic() - began
        if process.wait():
            raise RuntimeError(f"biofm train failed:\n{(folder / 'output').read_text()[-2000:]}")
    return seconds


if __name__ == "__main__":
    run_part(measure)
