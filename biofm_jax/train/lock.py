"""One run at a time in a workdir, also of several processes."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from biofm_jax.errors import UserError
from biofm_jax.train import hosts


@contextlib.contextmanager
def locked(workdir: Path | None) -> Iterator[None]:
    """Hold a workdir for this run; the operating system frees it when the process dies.

    Process 0 of a run of several holds it for all.

    Raises:
        UserError: another run holds it; every process is told.
    """
    with contextlib.ExitStack() as held:
        if workdir is not None:
            hosts.on_first("lock", lambda: held.enter_context(_held(workdir)))
        yield


@contextlib.contextmanager
def _held(workdir: Path) -> Iterator[None]:
    with contextlib.ExitStack() as opened:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context((workdir / ".lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another run is writing to {workdir}; wait for it or choose another folder"
            ) from None
        except OSError as error:
            raise UserError(
                f"--workdir {workdir} cannot be used: {error.strerror}; choose another folder"
            ) from None
        yield
