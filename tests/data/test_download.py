import hashlib
import socket

import numpy as np
import pytest
from origin_server import (
    another_range,
    corrupted,
    ignoring_range,
    ignoring_range_and_truncated,
    in_chunks,
    replaced_by,
    serving,
    silent,
    stalled,
    status,
    truncated,
    whole,
    without_length,
)

from biofm_jax.data import download as module
from biofm_jax.data.download import ChecksumError, FetchError, Patience, download

BODY = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(timeout=0.2, attempts=3, pause=0.01, longest=0.05)


@pytest.fixture
def origin():
    with serving() as server:
        server.files["/file"] = BODY
        yield server


@pytest.fixture
def get(origin, tmp_path):
    """Downloads with a plan for the server; returns the file."""

    def run(*plan, patience=QUICK, **more):
        origin.plan = list(plan)
        part = tmp_path / "file.part"
        download(origin.url("/file"), part, len(BODY), SHA256, patience, **more)
        return part

    return run


def test_a_file_comes_whole_and_is_reported_as_it_comes(origin, get):
    seen = []
    part = get(report=seen.append)
    assert part.read_bytes() == BODY and origin.ranges == [None]
    assert seen[0] == 0 and seen[-1] == len(BODY) and seen == sorted(seen) and len(seen) > 2


@pytest.mark.parametrize("bad", [truncated(70_000), stalled(70_000)], ids=["truncated", "stalled"])
def test_a_broken_connection_is_resumed_where_it_broke(origin, get, bad):
    assert get(bad, bad).read_bytes() == BODY
    assert origin.ranges == [None, "bytes=70000-", "bytes=140000-"]


def test_a_download_goes_on_in_another_run(origin, get, tmp_path):
    with pytest.raises(FetchError, match=r"50,000 of 200,000 bytes came and are kept"):
        get(truncated(50_000), truncated(0), truncated(0), truncated(0))
    assert (tmp_path / "file.part").stat().st_size == 50_000
    assert get().read_bytes() == BODY and origin.ranges[-1] == "bytes=50000-"


def test_a_server_that_ignores_ranges(origin, get):
    assert get(truncated(70_000), ignoring_range).read_bytes() == BODY
    assert origin.ranges == [None, "bytes=70000-"]


def test_no_endless_tries_at_a_server_that_ignores_ranges_and_breaks_off(origin, get):
    plan = [ignoring_range_and_truncated(n) for n in (9_000, 9_000, 8_000, 9_000, 9_000)]
    with pytest.raises(FetchError, match="closed early, 3 tries in a row"):
        get(*plan)
    assert len(origin.asked) == 4  # the first brought something new, three did not


def test_a_server_that_sends_another_range(origin, get):
    assert get(truncated(70_000), another_range).read_bytes() == BODY
    assert origin.ranges == [None, "bytes=70000-", None]


def test_a_length_need_not_be_said(get):
    assert get(without_length(BODY)).read_bytes() == BODY
    assert get(without_length(BODY[:70_000])).read_bytes() == BODY


def test_a_broken_chunk(origin, get):
    assert get(in_chunks(70_000)).read_bytes() == BODY
    assert origin.ranges == [None, "bytes=70000-"]


@pytest.mark.parametrize(
    "bad",
    [status(500), status(503, Retry_After="0"), status(429, Retry_After="99"), silent, stalled(0)],
    ids=["500", "503", "429", "silent", "stalled"],
)
def test_what_passes_is_tried_again(origin, get, bad):
    assert get(bad, bad).read_bytes() == BODY and len(origin.asked) == 3


def test_pauses_grow_and_heed_the_server(origin, get, monkeypatch):
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    busy = [status(500), status(500), status(500), status(503, Retry_After="7")]
    busy += [status(503, Retry_After="3600")]
    get(*busy, patience=Patience(timeout=1, attempts=9, pause=1.0, longest=30.0))
    assert pauses == [1.0, 2.0, 4.0, 8.0, 30.0]


@pytest.mark.parametrize(
    ("code", "words"),
    [(404, "no longer"), (410, "no longer"), (403, "refuses"), (401, "login"), (451, "not give")],
)
def test_what_does_not_pass_is_an_error_at_once(origin, get, tmp_path, code, words):
    with pytest.raises(FetchError, match=rf"127\.0\.0\.1.*/file: {code} .*{words}") as caught:
        get(status(code))
    assert len(origin.asked) == 1 and not (tmp_path / "file.part").exists()
    assert f"save it as {tmp_path / 'file.part'}" in str(caught.value)
    assert SHA256 in str(caught.value)


def test_a_file_saved_by_hand_needs_no_connection(origin, get, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY)
    assert get(status(404)).read_bytes() == BODY and origin.asked == []


def test_no_server(tmp_path):
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file"
        with pytest.raises(FetchError, match=r"/file: the connection failed .*3 tries.*_PROXY"):
            download(url, tmp_path / "file.part", len(BODY), SHA256, QUICK)
    assert not list(tmp_path.iterdir())


def test_a_wrong_checksum_names_both_and_deletes_the_part(origin, get, tmp_path):
    found = hashlib.sha256(BODY[:-1] + bytes([BODY[-1] ^ 1])).hexdigest()
    with pytest.raises(ChecksumError, match=f"expected .*{SHA256}.*found sha256 {found}"):
        get(corrupted)
    assert not (tmp_path / "file.part").exists() and len(origin.asked) == 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (replaced_by(b"<html>log in</html>", "text/html"), "found 19 bytes of text/html"),
        (replaced_by(BODY + b"more", "text/csv"), "found 200,004 bytes of text/csv"),
        (without_length(BODY + b"more"), "found more bytes"),
    ],
    ids=["login page", "longer", "longer, not said"],
)
def test_a_file_of_another_size(origin, get, tmp_path, bad, words):
    with pytest.raises(ChecksumError, match=words):
        get(bad)
    assert not (tmp_path / "file.part").exists() and len(origin.asked) == 1


def test_a_part_of_another_file_is_given_up_and_the_file_fetched_anew(origin, get, tmp_path):
    part = tmp_path / "file.part"
    for old in (bytes(1000), bytes(len(BODY)), bytes(len(BODY) + 5)):
        part.write_bytes(old)
        assert get().read_bytes() == BODY
        part.unlink()
    assert origin.ranges == ["bytes=1000-", None, None, None]
    part.write_bytes(bytes(1000))
    with pytest.raises(ChecksumError):  # once anew, not for ever
        get(whole, corrupted)
    assert not part.exists()


def test_a_part_that_the_server_cannot_continue(origin, get, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    assert get(status(416)).read_bytes() == BODY
    assert origin.ranges == ["bytes=1000-", None]
