"""Goal 1: the train step against transformers, ESM-2 8M and 35M, float32, 4 x 256 tokens.

One process per contender on one core and one thread; rounds interleaved; the median of the CPU
time of a round. All contenders start from the same weights, see the same batches with the same
masked positions, and have the same loss before anything is timed. Forward, backward and AdamW
are timed; masking is not, on either side. Transformers computes logits at all positions; this
package's own training step computes them at the masked ones, and is also shown with all.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile

from benchmarks.results import Row, judged, run_part
from benchmarks.train_worker import CONTENDERS

ROUNDS = 7
STEPS = {"8M": 2, "35M": 1}  # in a round
CHECKED = 2  # steps whose losses are compared
SAME_LOSS, SAME_LATER_LOSS = 1e-4, 1e-3
AGAIN = "ours again"
TARGETS = {"sdpa": 1.15, "compiled": 1.0}


class Worker:
    """A contender's process."""

    def __init__(
        self,
        contender: str,
        size: str,
        folder: str,
        core: int,
        module: str = "benchmarks.train_worker",
    ):
        command = [sys.executable, "-m", module, contender, size, folder]
        self._process = subprocess.Popen(
            [*command, str(core)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def send(self, command: str) -> None:
        """Start a command."""
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self):
        """The answer to the command; None where the process ended without one."""
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def measure() -> list[Row]:
    """Time all contenders at both sizes."""
    return [row for size in STEPS for row in compare(size)]


def compare(size: str) -> list[Row]:
    """The rows of one size."""
    with tempfile.TemporaryDirectory() as folder:
        making = [sys.executable, "-m", "benchmarks.train_worker", "weights", size, folder, "-1"]
        subprocess.run(making, check=True)
        entered = {**{name: name for name in CONTENDERS}, AGAIN: "ours"}
        workers = {
            name: Worker(kind, size, folder, core)
            for core, (name, kind) in enumerate(entered.items())
        }
        try:
            return judge(size, workers)
        finally:
            for worker in workers.values():
                worker.close()


def judge(size: str, workers: dict[str, Worker]) -> list[Row]:
    """Check the losses, time in turn, compare the medians."""
    losses = {}
    for worker in workers.values():
        worker.send(f"losses {CHECKED}")
    for name, worker in workers.items():
        losses[name] = worker.answer()
        shown = "failed" if losses[name] is None else " ".join(f"{x:.5f}" for x in losses[name])
        print(f"   {size} {name}: losses {shown}", flush=True)
    reference = losses["ours"]
    running = [name for name in workers if losses[name] is not None]
    for name in running:
        off = [abs(a / b - 1) for a, b in zip(losses[name], reference)]
        if off[0] > SAME_LOSS or off[-1] > SAME_LATER_LOSS:
            raise RuntimeError(f"{size}: {name} has losses {losses[name]}, ours {reference}")
    times: dict[str, list[float]] = {name: [] for name in running}
    for number in range(ROUNDS):
        for name in running:
            workers[name].send(f"time {STEPS[size]}")
            times[name].append(workers[name].answer() / STEPS[size])
        last = "  ".join(f"{name} {times[name][-1]:.3f}" for name in running)
        print(f"   {size} round {number + 1} of {ROUNDS}, s a step: {last}", flush=True)
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    against_itself = median[AGAIN] / median["ours"]
    void = not 0.95 <= against_itself <= 1.05
    rows = []
    for peer, target in TARGETS.items():
        for ours in ("ours", "ours_full"):
            figure = f"ESM-2 {size} train step, {CONTENDERS[ours]}, against {CONTENDERS[peer]}"
            if peer not in median:
                row = Row("train_step", 1, figure, "the peer did not run", f">= {target:.2f}x")
                rows.append(row)
                continue
            note = f"{median[ours]:.3f} s against {median[peer]:.3f} s"
            seconds = {"ours": times[ours], "peer": times[peer], "again": against_itself}
            ratio = median[peer] / median[ours]
            row = judged(
                "train_step", 1, figure, ratio, at_least=target, void=void, note=note, **seconds
            )
            rows.append(row)
    figure = f"ESM-2 {size} train step, the same contender entered twice"
    rows.append(judged("train_step", 1, figure, against_itself, form="{:.3f}x", void=void))
    return rows


if __name__ == "__main__":
    run_part(measure)
