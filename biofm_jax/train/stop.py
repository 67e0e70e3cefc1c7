"""What ends a run early: SIGTERM and Ctrl-C, with everything saved, or a loss gone wrong."""

import signal


class Stopped(RuntimeError):
    """A signal ended the run after a checkpoint was saved."""


class StopSignal:
    """While entered, remembers the first SIGTERM or Ctrl-C; a second one acts at once.

    Attributes:
        number: the signal that came, or None.
    """

    def __init__(self):
        self.number: int | None = None
        self._old: dict = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._old[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: the caller handles signals
                break
        return self

    def _handle(self, number, _) -> None:
        self.number = number
        signal.signal(number, self._old[number])

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def message(self, step: int, saved: bool) -> str:
        """What to tell the user."""
        name = signal.Signals(self.number).name
        where = ", and it is saved" if saved else ""
        return f"stopped by {name} after step {step}{where}; the same command goes on from there"


class NonFiniteLoss(RuntimeError):
    """The loss or a gradient became infinite or not a number."""


def diverged(step: int, metrics: dict, names: list[str], saved: int | None) -> str:
    """What to tell the user of a loss that is not finite.

    Args:
        step: where it happened.
        metrics: of the step, `loss` and `gradient_norm` among them.
        names: the records of the step's batch.
        saved: the step of the last good checkpoint, if any.
    """
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    kept = (
        "no checkpoint was saved before"
        if saved is None
        else f"the checkpoint of step {saved} is good"
    )
    return (
        f"step {step}: loss {metrics['loss']}, gradient norm {metrics['gradient_norm']}. "
        f"Records of the batch: {shown}. {kept}. Lower --optimizer.learning_rate, lengthen "
        "--optimizer.warmup, or look at these records"
    )
