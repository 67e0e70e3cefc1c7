"""Progress of long work: bars on a terminal; of scoring, lines in a log too."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

LONG_BYTES = 1 << 20  # smaller files are read in about a second
LONG_RECORDS = 20_000
QUIET = 20.0  # seconds between two lines of a log, and before the first

log = logging.getLogger("biofm_jax")


@contextlib.contextmanager
def bar_of_bytes(path: Path) -> Iterator[Callable[[BinaryIO], BinaryIO]]:
    """A wrapper of the raw file that moves a bar by the bytes read of it."""
    size = path.stat().st_size
    if not sys.stderr.isatty() or size < LONG_BYTES:
        yield lambda raw: raw
        return
    with _progress() as progress:
        yield lambda raw: progress.wrap_file(raw, size, description=f"preparing {path.name}")


def track(chunks: Iterable[list[str]], total: int, description: str) -> Iterator[list[str]]:
    """The chunks as they are, with a bar of the records in them."""
    if not sys.stderr.isatty() or total < LONG_RECORDS:
        yield from chunks
        return
    with _progress() as progress:
        task = progress.add_task(description, total=total)
        for chunk in chunks:
            yield chunk
            progress.advance(task, len(chunk))


@contextlib.contextmanager
def bar_of_download(name: str, size: int, wanted: bool = True) -> Iterator[Callable[[int], None]]:
    """A function that is told how many bytes of `size` are there and moves a bar to it."""
    if not wanted or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    with _progress(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(name, total=size)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def told(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A function that is told of each few pieces of work done, out of `total`.

    It moves a bar on a terminal; elsewhere it logs a line every 20 seconds.
    """
    if sys.stderr.isatty():
        from rich.progress import MofNCompleteColumn, TimeRemainingColumn

        with _progress(MofNCompleteColumn(), TimeRemainingColumn()) as progress:
            task = progress.add_task(what, total=total)
            yield lambda more: progress.advance(task, more)
        return
    started = last = time.monotonic()
    done = 0

    def line(more: int) -> None:
        nonlocal done, last
        done, now = done + more, time.monotonic()
        if now - last >= QUIET and done < total:
            left = (now - started) / done * (total - done)
            log.info(f"{what}: {done:,} of {total:,}, about {left:,.0f} s left")
            last = now

    yield line


def _progress(*more):
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *more) if more else ()
    return Progress(*columns, console=Console(stderr=True))
