import time

import numpy as np
import pytest

from biofm_jax.data.packing import OPEN_ROWS, OpenRows, fill_rows, plan_rows


def protein_lengths(count: int, max_tokens: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(rng.lognormal(np.log(300), 0.7, count), 20, max_tokens).astype(int)


def pack(lengths: np.ndarray, max_tokens: int, segments: int) -> list[list[int]]:
    rows = OpenRows(max_tokens, segments)
    closed = []
    for start in range(0, len(lengths), 256):
        stop = min(start + 256, len(lengths))
        closed += rows.add(list(range(start, stop)), lengths[start:stop].tolist())
        assert len(rows.rows()) <= OPEN_ROWS
    return closed + rows.close()


@pytest.mark.parametrize("segments", [1, 3, 16])
def test_every_sequence_once_and_no_row_overfull(segments):
    lengths = protein_lengths(3000, 1024)
    rows = pack(lengths, 1024, segments)
    assert sorted(name for row in rows for name in row) == list(range(3000))
    assert all(lengths[row].sum() <= 1024 and len(row) <= segments for row in rows)


def test_best_fit_takes_the_tightest_row():
    rows = OpenRows(10, 8)
    assert rows.add([0, 1, 2], [6, 7, 3]) == [[1, 2]]  # 3 fits both; row 1 is left full
    assert rows.add([3], [4]) == [[0, 3]]


def test_fill_and_rate_on_protein_lengths():
    lengths = protein_lengths(50_000, 1024)
    start = time.process_time()
    rows = pack(lengths, 1024, 16)
    rate = len(lengths) / (time.process_time() - start)
    assert lengths.sum() / (len(rows) * 1024) >= 0.97
    assert rate >= 100_000  # sequences a second on one core


def test_restored_rows_continue_alike():
    lengths = protein_lengths(2000, 1024)
    first = OpenRows(1024, 16)
    first.add(list(range(1000)), lengths[:1000].tolist())
    left = [1024 - int(lengths[row].sum()) for row in first.rows()]
    second = OpenRows(1024, 16)
    second.restore(first.rows(), left)
    names, rest = list(range(1000, 2000)), lengths[1000:].tolist()
    assert first.add(names, rest) == second.add(names, rest)
    assert first.close() == second.close()


def test_planned_rows_are_fuller_than_streamed():
    lengths = protein_lengths(2000, 1024)
    rows = plan_rows(lengths, 1024, 16)
    assert sorted(name for row in rows for name in row) == list(range(2000))
    assert len(rows) <= len(pack(lengths, 1024, 16))


def test_fill_rows_places_every_token():
    ids = np.arange(100, 120, dtype=np.uint8)
    tokens, segments, positions = fill_rows(
        ids,
        np.array([0, 5, 10]),
        np.array([3, 2, 4]),
        np.array([[0, 0], [0, 1], [1, 0]]),
        np.array([0, 3, 0]),
        (2, 6),
        pad=1,
    )
    np.testing.assert_array_equal(
        tokens, [[100, 101, 102, 105, 106, 1], [110, 111, 112, 113, 1, 1]]
    )
    np.testing.assert_array_equal(segments, [[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(positions, [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 0, 0]])
