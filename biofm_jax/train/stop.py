"""What ends a run early with everything saved: SIGTERM and Ctrl-C."""

import signal

from jax.experimental import multihost_utils

from biofm_jax.train import hosts


class Stopped(RuntimeError):
    """A signal ended the run after a checkpoint was saved."""


class StopSignal:
    """While entered, remembers the first SIGTERM or Ctrl-C; a second one acts at once.

    In a run of several processes SIGTERM is left to JAX's preemption service: told by any of the
    processes, it names a step that none has reached yet, at which all stop. That costs nothing
    per step, neither a collective nor a wait for the device; a flag that all processes reduce
    would, or would be seen only when metrics are read, too late for a short grace time.

    Attributes:
        number: of the signal that came to this process, or None.
    """

    def __init__(self):
        self.number: int | None = None
        self._old: dict = {}
        self._together = hosts.joined()

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT,) if self._together else (signal.SIGTERM, signal.SIGINT):
            try:
                self._old[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: the caller handles signals
                break
        return self

    def _handle(self, number, _) -> None:
        self.number = number
        signal.signal(number, self._old[number])
        if self._together:
            signal.raise_signal(signal.SIGTERM)

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def asked(self, step: int) -> bool:
        """Whether the run stops after this step: the same answer in every process."""
        if self._together:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.number is not None

    @property
    def alone_and_asked(self) -> bool:
        """Whether the run of one process was asked to stop; in one of many, `asked` decides."""
        return not self._together and self.number is not None

    def message(self, step: int, saved: bool) -> str:
        """What to tell the user."""
        name = signal.Signals(self.number or signal.SIGTERM).name
        where = ", and it is saved" if saved else ""
        return f"stopped by {name} after step {step}{where}; the same command goes on from there"
