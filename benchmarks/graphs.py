"""Training of a graph network against PyTorch Geometric: MolCLR's GIN, 64 rows of 128 atoms (about
500 molecules), float32.

One process per contender on one core and one thread; rounds interleaved; the median of the CPU
time of a round. All start from the same weights, see the same molecules in the same batches, and
have the same losses before anything is timed: forward, backward and AdamW. Either package takes a
batch whole, or adds up the gradients of eight microbatches (`--loop.accumulate 8`), which on a CPU
is faster for both; in microbatches also with the making of a batch from graphs in memory. Messages
are MolCLR's ("sum", its self loops added once on either side) and those of GINE ("relu"); a
LayerNorm stands in the place of BatchNorm. Nearly all of a step is products of matrices, the same
on either side.
"""

import statistics
import subprocess
import sys
import tempfile

from benchmarks.graphs_worker import CONTENDERS, molecules
from benchmarks.results import Row, judged, run_part
from benchmarks.train_step import AGAIN, Worker

ROUNDS, STEPS = 5, 2
CHECKED = 4  # steps whose losses are compared
SAME_LOSS, SAME_LATER_LOSS = 1e-4, 1e-3
MODULE = "benchmarks.graphs_worker"
TARGET = 1.5
PAIRS = (
    ("ours", "pyg"), ("ours_parts", "pyg_parts"), ("ours_parts", "pyg_whole"),
    ("ours_whole", "pyg_whole"),
)  # fmt: skip


def measure() -> list[Row]:
    """Time all contenders with both kinds of messages."""
    return [row for message in ("sum", "relu") for row in compare(message)]


def compare(message: str) -> list[Row]:
    """The rows of one kind of messages."""
    with tempfile.TemporaryDirectory() as folder:
        making = [sys.executable, "-m", MODULE, "weights", message, folder, "-1"]
        subprocess.run(making, check=True)
        entered = {**{name: name for name in CONTENDERS}, AGAIN: "ours"}
        workers = {
            name: Worker(kind, message, folder, core, MODULE)
            for core, (name, kind) in enumerate(entered.items())
        }
        try:
            return judge(message, workers)
        finally:
            for worker in workers.values():
                worker.close()


def judge(message: str, workers: dict[str, Worker]) -> list[Row]:
    """Check the losses, time in turn, compare the medians."""
    losses = {}
    for name, worker in workers.items():
        worker.send(f"losses {CHECKED}")
        losses[name] = worker.answer()
        if losses[name] is None:
            raise RuntimeError(f"{message}: {name} ended without an answer")
        shown = " ".join(f"{x:.5f}" for x in losses[name])
        print(f"   {message} {name}: losses {shown}", flush=True)
        off = [abs(a / b - 1) for a, b in zip(losses[name], losses["ours"])]
        if off[0] > SAME_LOSS or off[-1] > SAME_LATER_LOSS:
            raise RuntimeError(f"{message}: {name} has other losses than ours: {losses}")
    times: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(ROUNDS):
        for name, worker in workers.items():
            worker.send(f"time {STEPS}")
            times[name].append(worker.answer() / STEPS)
        last = "  ".join(f"{name} {seconds[-1]:.3f}" for name, seconds in times.items())
        print(f"   {message} round {number + 1} of {ROUNDS}, s a step: {last}", flush=True)
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    again = median[AGAIN] / median["ours"]
    void = not 0.95 <= again <= 1.05
    rows = []
    batches = molecules()[2]
    count = sum(len(row) for batch in batches for row in batch) / len(batches)
    for ours, peer in PAIRS:
        speeds = [count / median[name] for name in (ours, peer)]
        figure = f"GIN ({message}) training, {CONTENDERS[ours]}, against PyTorch Geometric, "
        figure += CONTENDERS[peer]
        note = f"{speeds[0]:,.0f} molecules/s against {speeds[1]:,.0f}"
        seconds = {"ours": times[ours], "peer": times[peer], "again": again}
        ratio = speeds[0] / speeds[1]
        row = judged(
            "graphs", None, figure, ratio, at_least=TARGET, void=void, note=note, **seconds
        )
        rows.append(row)
    figure = f"GIN ({message}) training, the same contender entered twice"
    rows.append(judged("graphs", None, figure, again, form="{:.3f}x", void=void))
    return rows


if __name__ == "__main__":
    run_part(measure)
