"""Goal 2: bulk embedding against transformers, ESM-2 8M and 35M, float32, real lengths.

The job is that of `biofm embed`: the mean over residues of the last hidden states, for proteins
with the lengths of real ones (`inputs.protein_lengths`), in file order at the end. Transformers'
`EsmModel` does it in three ways: in batches of eight as the file has them, padded to the longest,
as most scripts do; sorted by length first; and one protein at a time, without padding. One
process per contender on one core and one thread; rounds interleaved; the median of the CPU time
of a round. All contenders have the same weights and give the same vectors before anything is
timed.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.embed_worker import CONTENDERS, OURS, PROTEINS
from benchmarks.results import Row, judged, run_part
from benchmarks.train_step import AGAIN, Worker

ROUNDS = 7
SAME = 1e-4
TARGET = 2.0


def measure() -> list[Row]:
    """Time all contenders at both sizes."""
    return [row for size in PROTEINS for row in compare(size)]


def compare(size: str) -> list[Row]:
    """The rows of one size."""
    with tempfile.TemporaryDirectory() as folder:
        module = "benchmarks.embed_worker"
        subprocess.run([sys.executable, "-m", module, "weights", size, folder, "-1"], check=True)
        entered = {**{name: name for name in CONTENDERS}, AGAIN: OURS}
        workers = {
            name: Worker(kind, size, folder, core, module)
            for core, (name, kind) in enumerate(entered.items())
        }
        try:
            return judge(size, workers, Path(folder))
        finally:
            for worker in workers.values():
                worker.close()


def judge(size: str, workers: dict[str, Worker], folder: Path) -> list[Row]:
    """Check the vectors, time in turn, compare the medians."""
    files = {name: f"vectors{number}" for number, name in enumerate(workers)}
    for name, worker in workers.items():
        worker.send(f"check {files[name]}")
    fills = {name: worker.answer() for name, worker in workers.items()}
    vectors = {name: np.load(folder / f"{files[name]}.npy") for name in workers}
    for name, found in vectors.items():
        error = np.linalg.norm(found - vectors[OURS], axis=1)
        off = (error / np.linalg.norm(vectors[OURS], axis=1)).max()
        print(f"   {size} {name}: fill {fills[name]:.3f}, off by {off:.1e}", flush=True)
        if not off <= SAME:
            raise RuntimeError(f"{size}: the vectors of {name} are off by {off:.1e}")
    tokens = int(np.load(folder / "proteins.npz")["lengths"].sum())
    times: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(ROUNDS):
        for name, worker in workers.items():
            worker.send("time 1")
            times[name].append(worker.answer())
        last = "  ".join(f"{name} {seconds[-1]:.2f}" for name, seconds in times.items())
        print(f"   {size} round {number + 1} of {ROUNDS}, s: {last}", flush=True)
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    against_itself = median[AGAIN] / median[OURS]
    void = not 0.95 <= against_itself <= 1.05
    rate = {name: tokens / seconds for name, seconds in median.items()}
    rows = []
    for peer, title in CONTENDERS.items():
        if peer == OURS:
            continue
        rows.append(
            judged(
                "embed",
                2,
                f"ESM-2 {size} embedding forward, {CONTENDERS[OURS]}, against {title}",
                rate[OURS] / rate[peer],
                at_least=TARGET,
                void=void,
                note=f"{rate[OURS]:,.0f} against {rate[peer]:,.0f} real tokens/s; fill "
                f"{fills[OURS]:.0%} and {fills[peer]:.0%}",
                seconds={"ours": times[OURS], "peer": times[peer], "again": against_itself},
            )
        )
    figure = f"ESM-2 {size} embedding forward, the same contender entered twice"
    rows.append(judged("embed", 2, figure, against_itself, form="{:.3f}x", void=void))
    return rows


if __name__ == "__main__":
    run_part(measure)
