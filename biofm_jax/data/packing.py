"""Best-fit packing of sequences into rows, and the arrays of a batch of packed rows."""

import numpy as np
from jaxtyping import Int, Integer

from biofm_jax.array_types import Tokens, typed

OPEN_ROWS = 32


class OpenRows:
    """Streaming best-fit over a limited number of open rows.

    Each sequence goes to the open row with the least room that still holds it. The room of the
    open rows is a bit set in one integer, so that the best fit is a shift and a lowest-bit
    search. When no row fits and none more may open, the fullest row is closed.

    Args:
        max_tokens: length of a row.
        segments: most sequences in a row.
        most_open: rows that wait for more at a time.
    """

    def __init__(self, max_tokens: int, segments: int, most_open: int = OPEN_ROWS):
        self._most_open = most_open
        self._max_tokens = max_tokens
        self._segments = segments
        self._by_room: list[list[list[int]]] = [[] for _ in range(max_tokens + 1)]
        self._rooms = 0  # bit r is set where an open row has room for r more tokens
        self._count = 0

    def add(self, names: list[int], lengths: list[int]) -> list[list[int]]:
        """Place sequences in order; returns the rows that this closed.

        Args:
            names: a number for each sequence; rows are lists of them.
            lengths: tokens of each sequence, 1 to `max_tokens`.
        """
        closed: list[list[int]] = []
        by_room, rooms, count = self._by_room, self._rooms, self._count
        max_tokens, segments, most_open = self._max_tokens, self._segments, self._most_open
        for name, length in zip(names, lengths, strict=True):
            fitting = rooms >> length
            if fitting:
                room = length + (fitting & -fitting).bit_length() - 1
                row = by_room[room].pop()
                if not by_room[room]:
                    rooms ^= 1 << room
                row.append(name)
                count -= 1
            else:
                if count == most_open:
                    fullest = (rooms & -rooms).bit_length() - 1
                    closed.append(by_room[fullest].pop(0))
                    if not by_room[fullest]:
                        rooms ^= 1 << fullest
                    count -= 1
                row, room = [name], max_tokens
            room -= length
            if room == 0 or len(row) == segments:
                closed.append(row)
            else:
                by_room[room].append(row)
                rooms |= 1 << room
                count += 1
        self._rooms, self._count = rooms, count
        return closed

    def close(self) -> list[list[int]]:
        """Close all open rows, the fullest first, and return them."""
        rows = self.rows()
        self.__init__(self._max_tokens, self._segments, self._most_open)
        return rows

    def rows(self) -> list[list[int]]:
        """The open rows, in an order from which `restore` rebuilds the same state."""
        return [row for rows in self._by_room for row in rows]

    def restore(self, rows: list[list[int]], room: list[int]) -> None:
        """Reopen rows as `rows` gave them.

        Args:
            rows: sequence numbers of each row.
            room: tokens left in each row.
        """
        self.__init__(self._max_tokens, self._segments, self._most_open)
        for row, left in zip(rows, room, strict=True):
            self._by_room[left].append(list(row))
            self._rooms |= 1 << left
        self._count = len(rows)


def plan_rows(lengths: np.ndarray, max_tokens: int, segments: int) -> list[list[int]]:
    """Pack all sequences at once, longest first, into rows of sequence numbers.

    Args:
        lengths: (n,) tokens of each sequence; longer than a row counts as a whole row.
        max_tokens: length of a row.
        segments: most sequences in a row.
    """
    order = np.argsort(-lengths, kind="stable")
    rows = OpenRows(max_tokens, segments, most_open=len(lengths) + 1)
    fitted = np.minimum(lengths[order], max_tokens)
    return rows.add(order.tolist(), fitted.tolist()) + rows.close()


@typed
def fill_rows(
    ids: Integer[np.ndarray, " n"],
    starts: Int[np.ndarray, " m"],
    lengths: Int[np.ndarray, " m"],
    placement: Int[np.ndarray, "m 2"],
    columns: Int[np.ndarray, " m"],
    shape: tuple[int, int],
    pad: int,
) -> tuple[Tokens, Tokens, Tokens]:
    """Tokens, segment ids and positions of a batch, each (b, t) int32, in one gather.

    Args:
        ids: (n,) all token ids one behind the other, any integer type.
        starts: (m,) where each example of the batch starts in `ids`.
        lengths: (m,) its tokens.
        placement: (m, 2) its row and its number within the row.
        columns: (m,) the column of the row at which it starts.
        shape: (b, t).
        pad: token id of padding.
    """
    tokens = np.full(shape, pad, np.int32)
    segment_ids = np.zeros(shape, np.int32)
    positions = np.zeros(shape, np.int32)
    before = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(before, lengths)
    target = np.repeat(placement[:, 0] * shape[1] + columns, lengths) + within
    tokens.reshape(-1)[target] = ids[np.repeat(starts, lengths) + within]
    segment_ids.reshape(-1)[target] = np.repeat(placement[:, 1] + 1, lengths)
    positions.reshape(-1)[target] = within
    return tokens, segment_ids, positions
