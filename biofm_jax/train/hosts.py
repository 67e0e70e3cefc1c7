"""Many processes as one run: joining, agreeing, leaving.

A run of one process passes through all of this untouched. Distribution itself is JAX's own
(`jax.distributed`); what is here tells in words what went wrong, within a bounded time.
"""

import collections
import json
import logging
import os
import sys
import threading
from collections.abc import Callable

import jax
from jax._src import distributed as runtime  # its key-value store has no public name

from biofm_jax.errors import UserError
from biofm_jax.train.roll_call import Seat, roll_call
from biofm_jax.train.watch import Watch, leave_now

log = logging.getLogger("biofm_jax")

DAY = 24 * 3600 * 1000  # ms; a process that dies meanwhile is told of by the watch

_watch: Watch | None = None
_rounds: collections.Counter = collections.Counter()


def join(discover: bool, facts: Callable[[], dict]) -> None:
    """Become part of a run of many processes, if there is one; before any use of a device.

    Plain machines are told by BIOFM_COORDINATOR (host:port of process 0), BIOFM_PROCESSES and
    BIOFM_PROCESS_ID. BIOFM_JOIN_TIMEOUT is in seconds, by default 300; so is
    BIOFM_HEARTBEAT_TIMEOUT, by default 100, after which JAX ends a run with a silent process.

    Args:
        discover: ask JAX's cluster discovery (TPU pods, SLURM, MPI) where the variables are unset.
        facts: gives what must be equal on every host, name -> JSON value.

    Raises:
        UserError: variables that make no sense, a process that is missing or counted wrong, or
            hosts that differ.
    """
    global _watch
    timeout = _seconds("BIOFM_JOIN_TIMEOUT", 300)
    heartbeat = _seconds("BIOFM_HEARTBEAT_TIMEOUT", 100)
    devices = None
    seat = seat_of_environment(timeout)
    if seat is None and discover:
        seat, devices = discovered_seat(timeout)
    if seat is None or seat.processes == 1 or _watch is not None:
        return
    lines, warnings = roll_call(seat, facts())
    for warning in warnings:
        log.warning(warning)
    # Everybody was there a moment ago: whoever is missing now has died, and JAX would abort.
    late = f"JAX's runtime did not start at {seat.coordinator} within {timeout:g} s"
    timer = threading.Timer(timeout, leave_now, (late,))
    timer.daemon = True
    timer.start()
    _watch = Watch(lines, chief=seat.process == 0)
    jax.distributed.initialize(
        seat.coordinator,
        seat.processes,
        seat.process,
        local_device_ids=devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(timeout) + 60,
        heartbeat_timeout_seconds=int(heartbeat),
    )
    timer.cancel()


def seat_of_environment(timeout: float) -> Seat | None:
    """This process's seat by the BIOFM_ variables, or None where they are unset.

    Raises:
        UserError: one is missing, or no number that makes sense.
    """
    names = ("BIOFM_COORDINATOR", "BIOFM_PROCESSES", "BIOFM_PROCESS_ID")
    values = [os.environ.get(name, "") for name in names]
    if not any(values):
        return None
    for name, value in zip(names, values, strict=True):
        if not value:
            raise UserError(f"{name} is not set; {', '.join(names)} go together")
    try:
        processes, process = int(values[1]), int(values[2])
    except ValueError:
        raise UserError(
            f"BIOFM_PROCESSES={values[1]} and BIOFM_PROCESS_ID={values[2]} must be whole numbers"
        ) from None
    if not 0 <= process < processes:
        raise UserError(
            f"BIOFM_PROCESS_ID={process} must be 0 to {processes - 1} for "
            f"BIOFM_PROCESSES={processes}"
        )
    seat = Seat(values[0], processes, process, timeout)
    return seat if seat.address else None


def discovered_seat(timeout: float) -> tuple[Seat, list[int] | None]:
    """This process's seat by JAX's own discovery, and the numbers of its devices if it has few.

    Raises:
        UserError: no cluster is found here.
    """
    from jax._src.clusters import ClusterEnv  # what jax.distributed.initialize() asks

    found = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(timeout)
    )
    coordinator, processes, process, devices = found
    if coordinator is None or processes is None or process is None:
        raise UserError(
            "--distributed found no TPU pod, SLURM or MPI job here; on plain machines set "
            "BIOFM_COORDINATOR, BIOFM_PROCESSES and BIOFM_PROCESS_ID instead"
        )
    return Seat(coordinator, processes, process, timeout), devices


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e6:
        raise UserError(f"{name}={text} must be a number of seconds, 1 or more")
    return value


def joined() -> bool:
    """Whether this process is one of many."""
    return _watch is not None


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return not joined() or jax.process_index() == 0


def host_name() -> str:
    """This machine's name and this process's number."""
    return f"{os.uname().nodename} (process {jax.process_index()})"


def share(name: str, value) -> list:
    """Each process's JSON value, by number of the process; waits for all of them.

    All processes must call it in the same order for a name.
    """
    if not joined():  # and no device is touched: a sweep leaves them to its children
        return [value]
    _rounds[name] += 1
    client, key = runtime.global_state.client, f"biofm/{name}/{_rounds[name]}"
    client.key_value_set(f"{key}/{jax.process_index()}", json.dumps(value))
    client.wait_at_barrier(key, DAY)
    found = {k.rsplit("/", 1)[1]: json.loads(v) for k, v in client.key_value_dir_get(key)}
    return [found[str(process)] for process in range(jax.process_count())]


def agree(name: str, value) -> None:
    """Refuse a JSON value that is not the same everywhere.

    Raises:
        UserError: on every process; names the hosts.
    """
    said = share(name, {"host": host_name(), "value": value})
    for other in said[1:]:
        if other["value"] != said[0]["value"]:
            raise UserError(
                f"{name} is not the same on all hosts: {other['value']} on {other['host']}, "
                f"{said[0]['value']} on {said[0]['host']}"
            )


def on_first(name: str, action: Callable[[], None]) -> None:
    """Do something on process 0 alone, while the others wait.

    Raises:
        UserError: on every process, where the action raised it on process 0.
    """
    problem = None
    if is_first():
        try:
            action()
        except UserError as error:
            problem = str(error)
    problem = share(name, problem)[0]
    if problem is not None:
        raise UserError(problem)


def publish(name: str, value) -> None:
    """Put up a JSON value of this process for whoever looks; the newest one stays."""
    key = f"biofm/{name}/{jax.process_index()}"
    runtime.global_state.client.key_value_set(key, json.dumps(value), allow_overwrite=True)


def published(name: str) -> dict[int, object]:
    """What each process put up last, by its number; nothing is waited for."""
    found = runtime.global_state.client.key_value_dir_get(f"biofm/{name}")
    return {int(key.rsplit("/", 1)[1]): json.loads(value) for key, value in found}


def failing(error: BaseException) -> None:
    """Tell the other processes that this one stops with an error, so that none waits for it."""
    if _watch is not None:
        _watch.failing(f"{type(error).__name__}: {error}")


def leave(code: int) -> int:
    """End this process's part.

    Returns:
        The exit code. A process of many that failed does not return: it ends here, as JAX would
        otherwise wait for the others.
    """
    global _watch
    if _watch is None:
        return code
    watch, _watch = _watch, None
    watch.close()
    if watch.failed:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    jax.distributed.shutdown()
    return code
