"""Finds the host that all others wait for, and names it.

Every step ends in a sum over all devices, so that all hosts take the same time for it; a slow
one cannot be told by that. What differs is for how long a host's devices stood idle because the
host had not given them the next step yet (it was reading data, swapping, sharing its cores).
That is measured by a thread that waits for each step's metrics, at no cost to the loop. A slow
chip shows on no host's clock, and is not found.
"""

import collections
import logging
import queue
import statistics
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax

from biofm_jax.train import hosts

log = logging.getLogger("biofm_jax")

SLOW = 1.3  # times the median step
LEAST = 0.02  # seconds of delay a step below which nothing is said


class Pace:
    """The step times of this host and, on process 0, of all; idle in a run of one process."""

    def __init__(self):
        self._steps: queue.Queue = queue.Queue()
        self._lock = threading.Lock()
        self._late = self._busy = 0.0
        self._count = 0
        self._began: float | None = None
        self._resting = False
        self._told: collections.Counter = collections.Counter()
        self._thread: threading.Thread | None = None
        if jax.process_count() > 1:
            self._thread = threading.Thread(target=self._follow, name="pace", daemon=True)
            self._thread.start()

    def begin(self) -> None:
        """To be called before a step is given to the devices."""
        self._began = time.monotonic()

    def given(self, metrics: Any) -> None:
        """To be called after it, with arrays that are ready when the step is."""
        if self._thread is not None:
            self._steps.put((self._began, self._resting, metrics))
        self._resting = False

    def rest(self) -> None:
        """What happens before the next step (a save, an evaluation) is no delay."""
        self._resting = True

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join(timeout=5)

    def _follow(self) -> None:
        before = None
        while (item := self._steps.get()) is not None:
            began, rested, metrics = item
            try:
                jax.block_until_ready(metrics)
            except Exception:  # the loop meets the same error, and tells it
                return
            ready = time.monotonic()
            with self._lock:
                if before is not None and not rested:
                    self._late += max(0.0, began - before)
                    self._busy += ready - max(began, before)
                    self._count += 1
            before = ready

    def look(self, step: int) -> dict:
        """Share this host's figures and, on process 0, compare those of all.

        Nothing is waited for: figures of other hosts may be an interval old.

        Args:
            step: for the log.

        Returns:
            For metrics.jsonl: `step_seconds` of the median host and of the slowest, and the name
            of a slow one; empty on other processes and for a single one.
        """
        if self._thread is None:
            return {}
        with self._lock:
            count, late, busy = self._count, self._late, self._busy
            self._count, self._late, self._busy = 0, 0.0, 0.0
        if count:
            mine = {"host": hosts.host_name(), "late": late / count, "busy": busy / count}
            hosts.publish("pace", mine)
        if not hosts.is_first():
            return {}
        found = slowest(hosts.published("pace"))
        if found is None:
            return {}
        name, seconds, median, late = found
        row = {"step_seconds_median": median, "step_seconds_slowest": seconds}
        if seconds > SLOW * median and late > LEAST:
            row["slow_host"] = name
            self._told[name] += 1
            if self._told[name] & (self._told[name] - 1) == 0:  # the 1st, 2nd, 4th, 8th time
                log.warning(
                    f"step {step}: {name} is slow: it keeps all waiting, {seconds:.3g} s a step "
                    f"against a median of {median:.3g} s"
                )
        return row


def slowest(paces: Mapping[int, dict]) -> tuple[str, float, float, float] | None:
    """The slowest host.

    Args:
        paces: by process, `late` and `busy` seconds a step: idle devices, and from then on
            until the step was ready on all hosts.

    Returns:
        Its name, its seconds a step if no other held it up, the lower median of all, and its
        delay in seconds; None for fewer than two hosts.
    """
    if len(paces) < 2:
        return None
    # The slowest host waits for nobody: its busy time is that of the devices.
    devices = min(pace["busy"] for pace in paces.values())
    worst = max(paces.values(), key=lambda pace: pace["late"])
    median = statistics.median_low(devices + pace["late"] for pace in paces.values())
    return worst["host"], devices + worst["late"], median, worst["late"]
