import itertools
import logging

from biofm_jax.data import progress


def test_without_a_terminal_long_work_is_told_in_lines(monkeypatch, caplog):
    clock = itertools.count(0.0, 15.0)  # seconds, of the start and of each piece
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO, "biofm_jax")
    with progress.told(50, "toy: contexts read") as advance:
        for _ in range(5):
            advance(10)
    assert [record.getMessage() for record in caplog.records] == [
        "toy: contexts read: 20 of 50, about 45 s left",
        "toy: contexts read: 40 of 50, about 15 s left",
    ]


def test_short_work_says_nothing(caplog):
    caplog.set_level(logging.INFO, "biofm_jax")
    with progress.told(2, "toy") as advance:
        advance(1)
        advance(1)
    assert not caplog.records


def test_on_a_terminal_a_bar_moves(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.told(30, "toy") as advance:
        advance(30)
    said = capsys.readouterr().err
    assert "toy" in said and "30/30" in said
