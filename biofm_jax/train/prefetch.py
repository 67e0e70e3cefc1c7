"""Draws batches in a thread while the devices compute."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Drawn(NamedTuple):
    """A batch, where it lies and where the iterator stood after it.

    Attributes:
        batch: on the devices.
        tokens: real (unpadded) tokens of this process's rows.
        host: the numpy batch, kept to name its records.
        state: the iterator's state after this batch: a resume goes on with the next one.
    """

    batch: Any
    tokens: int
    host: Any
    state: dict


class Prefetch:
    """An iterator of Drawn over a batch iterator.

    The iterator runs ahead of training, so its own state is not the one to save; each batch
    carries the right one.

    Args:
        batches: a batch iterator with `state()`.
        put: moves a numpy batch to the devices.
        depth: batches drawn ahead.
    """

    def __init__(self, batches, put: Callable, depth: int = 2):
        self._queue: queue.Queue = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._draw, args=(batches, put), name="prefetch", daemon=True
        )
        self._thread.start()

    def _draw(self, batches, put) -> None:
        try:
            for batch in batches:
                if not self._offer(Drawn(put(batch), _tokens(batch), batch, batches.state())):
                    return
            self._offer(StopIteration())
        except BaseException as error:  # handed to the training thread, which raises it
            self._offer(error)

    def _offer(self, item) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[Drawn]:
        return self

    def __next__(self) -> Drawn:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop the thread; batches drawn ahead are given up."""
        self._stop.set()
        self._thread.join(timeout=5)


def _tokens(batch) -> int:
    """Real tokens of a batch, both views counted."""
    own = int((batch.segment_ids > 0).sum())
    return own if batch.pair is None else own + _tokens(batch.pair)
