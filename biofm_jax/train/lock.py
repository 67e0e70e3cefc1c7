"""One run at a time in a workdir."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from biofm_jax.errors import UserError


@contextlib.contextmanager
def locked(workdir: Path | None) -> Iterator[None]:
    """Hold a workdir for this process; the operating system frees it when the process dies.

    Raises:
        UserError: another run holds it.
    """
    if workdir is None:
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another run is writing to {workdir}; wait for it or choose another folder"
            ) from None
        yield
