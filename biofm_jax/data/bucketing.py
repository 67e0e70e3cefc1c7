"""Sequences of mixed lengths to batches of few shapes, each row hardly longer than it needs.

Attention costs the square of a row's length, so a short sequence belongs in a short row; padding
costs too, so what is left of a row takes shorter sequences. Rows have one of a few lengths, and
each length has one number of rows, so that a model is compiled a few times only.
"""

import bisect
import dataclasses

import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.packing import fill_rows

SHORTEST = 64  # tokens of the shortest rows: a block of queries on a CPU
KEYS = 1024  # keys whose attention costs a token as much as all else in a block: roughly


@dataclasses.dataclass(frozen=True)
class RowBatch:
    """The sequences of one batch.

    Attributes:
        tokens: t, the length of its rows.
        rows: b, the number of its rows, empty ones at the end included.
        sequences: (n,) int64 numbers of its sequences.
        placement: (n, 2) int64 the row of each and its place within the row, from 0.
        columns: (n,) int64 the column at which each starts.
    """

    tokens: int
    rows: int
    sequences: np.ndarray
    placement: np.ndarray
    columns: np.ndarray


def row_lengths(longest: int, multiple: int = SHORTEST) -> tuple[int, ...]:
    """Lengths of rows, ascending: 64, 128, 192, 256, 384, 512, 768 and so on up to `longest`.

    Args:
        longest: tokens of the longest row.
        multiple: what all but the last are divided by.
    """
    power = [multiple << i for i in range(max(1, longest // multiple).bit_length())]
    between = [3 * each // 2 for each in power if each // 2 % multiple == 0]
    return (*sorted(each for each in (*power, *between) if each < longest), longest)


def plan_batches(
    lengths: np.ndarray, allowed: tuple[int, ...], segments: int, batch_tokens: int
) -> list[RowBatch]:
    """Pack sequences into rows of several lengths, and these into batches of one length each.

    A row is opened for the longest sequence left and filled up with the longest that fit; of the
    lengths that it could have, it gets the one with the least cost by token. Every batch of a
    length has the same number of rows. A last batch that would be less than half full takes part
    in the next length.

    Args:
        lengths: (n,) tokens of each sequence, at least 1 and at most `allowed[-1]`.
        allowed: lengths of rows, ascending.
        segments: most sequences in a row.
        batch_tokens: most tokens of a batch of more than one row.
    """
    filled: dict[int, list[list[int]]] = {length: [] for length in allowed}
    for length, row in _rows(lengths, allowed, segments):
        filled[length].append(row)
    batches, waiting = [], []
    for length in allowed:
        rows = filled[length] + waiting
        count = max(1, batch_tokens // length)
        whole = len(rows) // count * count
        if 2 * (len(rows) - whole) >= count or length == allowed[-1]:
            whole = len(rows)
        for start in range(0, whole, count):
            batches.append(_batch(rows[start : min(start + count, whole)], lengths, length, count))
        waiting = rows[whole:]
    return batches


def _rows(lengths: np.ndarray, allowed: tuple[int, ...], segments: int):
    """Row length and sequence numbers of every row."""
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    first = np.searchsorted(ordered, np.arange(allowed[-1] + 2))
    left = np.diff(first).tolist()  # sequences of each length that are left
    ends = first[1:].tolist()
    there = sum(1 << length for length, count in enumerate(left) if count)
    rows = []
    while there:
        longest = there.bit_length() - 1
        best = None
        for tokens in allowed[bisect.bisect_left(allowed, longest) :]:
            chosen = _fill(tokens, segments, there, left)
            cost = tokens * (KEYS + tokens) / sum(chosen)
            if best is None or cost < best[0]:
                best = cost, tokens, chosen
        _, tokens, chosen = best
        row = []
        for length in chosen:
            left[length] -= 1
            ends[length] -= 1
            row.append(int(order[ends[length]]))
            if not left[length]:
                there ^= 1 << length
        rows.append((tokens, row))
    return rows


def _fill(room: int, segments: int, there: int, left: list[int]) -> list[int]:
    """Lengths of the sequences that a row would hold, the longest that fits first.

    Args:
        room: tokens of the row.
        segments: most sequences in it.
        there: bit t is set where a sequence of t tokens is left.
        left: how many are, by length.
    """
    chosen: list[int] = []
    while len(chosen) < segments:
        length = (there & ((2 << room) - 1)).bit_length() - 1
        if length < 1:
            break
        count = min(left[length], room // length, segments - len(chosen))
        chosen += [length] * count
        room -= length * count
        there &= ~(1 << length)
    return chosen


def _batch(rows: list[list[int]], lengths: np.ndarray, tokens: int, count: int) -> RowBatch:
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    sequences = np.fromiter((name for row in rows for name in row), np.int64, int(sizes.sum()))
    row = np.repeat(np.arange(len(rows)), sizes)
    first = np.cumsum(sizes) - sizes
    within = np.arange(len(sequences)) - np.repeat(first, sizes)
    before = np.cumsum(lengths[sequences]) - lengths[sequences]
    columns = before - np.repeat(before[first], sizes)
    return RowBatch(tokens, count, sequences, np.stack([row, within], axis=1), columns)


def fill_batch(
    plan: RowBatch, ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray, slots: int, pad: int
) -> Batch:
    """The arrays of a planned batch.

    Args:
        plan: of `plan_batches`.
        ids: (m,) all token ids one behind the other.
        starts: (n,) int64 where each sequence starts in `ids`.
        lengths: (n,) int64 its tokens.
        slots: s, at least the most sequences of a row.
        pad: token id of padding.

    Returns:
        (b, t) tokens, segments and positions; `examples` (b, s) holds numbers of sequences.
    """
    chosen = plan.sequences
    arrays = fill_rows(
        ids,
        starts[chosen],
        lengths[chosen],
        plan.placement,
        plan.columns,
        (plan.rows, plan.tokens),
        pad,
    )
    examples = np.full((plan.rows, slots), -1, np.int32)
    examples[plan.placement[:, 0], plan.placement[:, 1]] = chosen
    return Batch(*arrays, examples)
