"""Watches the other processes of a run: when one dies, all stop, and say which one it was.

A collective waits for ever for a process that is gone, and JAX's heartbeat ends the waiting one
with a stack trace. The operating system tells at once when a process dies, by closing its
connections. What it cannot tell of, a process that hangs, is left to JAX's heartbeat.
"""

import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

from biofm_jax.train.roll_call import Line

FAREWELL = 60.0  # seconds a failed process has to finish a save and leave
GRACE = 5.0  # seconds the others have to fail by themselves, with a message of their own
GONE = "is gone without a word: killed, out of memory, or its machine is lost"


def leave_now(message: str) -> None:
    """End this process without waiting for anybody; exit code 1."""
    print(f"biofm: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


class Watch:
    """A thread that reads the lines of a roll call.

    Args:
        lines: to all others (process 0) or to process 0 alone.
        chief: whether this is process 0, which passes news on.
        end: called with a message when a process is lost; by default it ends this one.
    """

    def __init__(self, lines: Sequence[Line], chief: bool, end: Callable = leave_now):
        self._lines, self._chief, self._end = list(lines), chief, end
        self._last_words: dict[str, str | None] = {}  # None: left in peace
        self._failed = False
        self._leaving = threading.Event()
        self._wake, self._asleep = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether this process told the others that it fails."""
        return self._failed

    def failing(self, message: str) -> None:
        """Tell the others that this process is about to stop with an error; once."""
        if self._failed:
            return
        self._failed = True
        for line in self._lines:
            line.send({"failed": message})
        slow = f"gave up {FAREWELL:g} s after an error: {message}"
        timer = threading.Timer(FAREWELL, self._end, (slow,))
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """Leave in peace; after `failing`, process 0 first gives the others time to go."""
        self._leaving.set()
        if not self._failed:
            for line in self._lines:
                line.send({"bye": True})
        elif self._chief:
            end = time.monotonic() + GRACE
            while self._lines and time.monotonic() < end:
                time.sleep(0.05)
        self._wake.close()
        self._thread.join(timeout=1)
        for line in self._lines:
            line.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._asleep, selectors.EVENT_READ)
            for line in self._lines:
                selector.register(line.connection, selectors.EVENT_READ, line)
            while True:
                for key, _ in selector.select():
                    if key.data is None:  # `close` woke it
                        return
                    if not self._read(key.data):
                        selector.unregister(key.data.connection)
                        self._lines.remove(key.data)
                        self._departed(key.data.name)

    def _read(self, line: Line) -> bool:
        """Take in what a line says; False where the other side has gone."""
        while True:
            try:
                message = line.read(1.0)
            except TimeoutError:  # half a line: the rest will come
                return True
            if message is None:
                return False
            if "lost" in message:
                self._lost(message["lost"], message["grace"])
            else:
                self._last_words[line.name] = message.get("failed")
            if not line.waiting:
                return True

    def _departed(self, name: str) -> None:
        words = self._last_words.get(name, GONE)
        if words is not None:
            told = words is not GONE
            self._lost(f"{name} failed: {words}" if told else f"{name} {GONE}", GRACE * told)

    def _lost(self, what: str, grace: float) -> None:
        """End this process, unless it is ending by itself."""
        if self._chief:
            for line in self._lines:
                line.send({"lost": what, "grace": grace})
        end = time.monotonic() + grace
        while not (self._failed or self._leaving.is_set()):
            if time.monotonic() >= end:
                self._end(
                    f"{what}. All processes stop; the same command for each of them goes on from "
                    "the newest checkpoint"
                )
                return
            time.sleep(0.02)
