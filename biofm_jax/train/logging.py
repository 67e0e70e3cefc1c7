"""What a run writes while it trains: JSON lines, TensorBoard, the curve, the progress bar."""

import io
import json
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from biofm_jax.files import write_whole

METRICS = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict]:
    """The rows of a metrics.jsonl; a last line cut short by a kill is dropped."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


class RunLog:
    """Metrics of a run, kept in memory and, with a workdir, on disk.

    Args:
        workdir: folder of the run, or None to keep the rows in memory only.
        step: the step the run goes on from; rows logged after it belong to work that is done
            again, and are removed.
    """

    def __init__(self, workdir: Path | None, step: int = 0):
        self.rows: list[dict] = []
        self._file = self._board = None
        self._workdir = workdir
        if workdir is None:
            return
        path = workdir / METRICS
        self.rows = [row for row in read_metrics(path) if row["step"] <= step]
        write_whole(path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._file = path.open("a", buffering=1)
        from tensorboardX import SummaryWriter

        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, row: dict) -> None:
        """Add a row: `step` and the values measured at it."""
        self.rows.append(row)
        if self._file is not None:
            self._file.write(json.dumps(row) + "\n")
            for name, value in row.items():
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Close the files and draw the curve."""
        if self._file is not None:
            self._file.close()
            self._board.close()
            if any("loss" in row for row in self.rows):
                plot_curve(self.rows, self._workdir / "curve.png")


def plot_curve(rows: list[dict], path: Path) -> None:
    """Draw the training and validation loss over steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for name, label in (("loss", "training"), ("validation_loss", "held out")):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            dots = "o-" if len(points) < 30 else "-"
            axis.plot(*zip(*points, strict=True), dots, markersize=3, label=label)
    axis.set(xlabel="step", ylabel="loss (nats per target)")
    axis.grid(alpha=0.3)
    axis.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_whole(path, picture.getvalue())


class ProgressBar:
    """Step, loss, speed and time left: a bar on a terminal, a line now and then elsewhere.

    Args:
        title: what runs.
        steps: steps of the whole run.
        start: steps already done.
        show: False prints nothing.
        unit: what is counted, such as tokens.
    """

    SECONDS_BETWEEN_LINES = 15.0

    def __init__(
        self, title: str, steps: int, start: int = 0, show: bool = True, unit: str = "tokens"
    ):
        self._unit = unit
        self._console = Console(stderr=True)
        self._bar = show and self._console.is_terminal
        self._lines = show and not self._bar
        self._title, self._steps, self._start = title, steps, start
        self._began = self._printed = time.monotonic()
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}  {task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._bar)
        self._task = self._progress.add_task(title, total=steps, completed=start, note="compiling")

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def advance(self, step: int) -> None:
        """Move to a step."""
        self._progress.update(self._task, completed=step)

    def note(self, step: int, loss: float, rate: float) -> None:
        """Show the newest figures."""
        text = f"loss {loss:.4f}  {rate:,.0f} {self._unit}/s"
        self._progress.update(self._task, note=text)
        now = time.monotonic()
        last = step == self._steps
        if self._lines and (last or now - self._printed >= self.SECONDS_BETWEEN_LINES):
            self._printed = now
            rate = (now - self._began) / max(1, step - self._start)
            left = time.strftime("%H:%M:%S", time.gmtime(rate * (self._steps - step)))
            self._console.print(
                f"{self._title}: step {step}/{self._steps}  {text}  {left} left", highlight=False
            )
