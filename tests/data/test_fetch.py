import gzip
import hashlib
import os
import shutil
import threading
from collections import namedtuple

import pytest
from origin_server import corrupted, serving, status, truncated

from biofm_jax.data import fetch as module
from biofm_jax.data.download import ChecksumError, FetchError, Patience
from biofm_jax.data.fetch import check_terms, compress, data_root, fetch, look
from biofm_jax.data.registry import DataFile, DataSet, find
from biofm_jax.errors import UserError

QUICK = Patience(timeout=0.2, attempts=2, pause=0.01)
TABLE = b"smiles,label\n" + b"CCO,1\nCCN,0\n" * 500
LICENCE = b"Do what you like.\n"


def a_file(origin, path: str, content: bytes, stored: str = "as_is") -> DataFile:
    origin.files[f"/{path}"] = content
    placed = compress(content) if stored == "gzip" else content
    sums = [hashlib.sha256(each).hexdigest() for each in (placed, content)]
    name = f"{path}.gz" if stored == "gzip" else path
    url = origin.url(f"/{path}")
    return DataFile(name, len(placed), sums[0], stored, url, len(content), sums[1])


def a_set(files, terms="open") -> DataSet:
    return DataSet("toy", "a toy", "MIT", terms, "Someone 2020", "", tuple(files))


@pytest.fixture
def origin():
    with serving() as server:
        yield server


@pytest.fixture
def toy(origin) -> DataSet:
    licence = a_file(origin, "drug/toy/LICENSE", LICENCE)
    return a_set([licence, a_file(origin, "drug/toy/table.csv", TABLE, "gzip")])


def statuses(placed) -> list[str]:
    return [each.status for each in placed]


def tree(root) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_set_is_fetched_once(origin, toy, tmp_path):
    root = tmp_path / "new" / "root"
    assert statuses(look(toy, root)) == ["missing", "missing"] and not root.exists()
    placed = fetch(toy, root, QUICK)
    assert statuses(placed) == ["fetched", "fetched"]
    assert [each.path for each in placed] == [root / file.path for file in toy.files]
    assert (root / "drug/toy/LICENSE").read_bytes() == LICENCE
    assert gzip.decompress((root / "drug/toy/table.csv.gz").read_bytes()) == TABLE
    assert tree(root) == {"drug/toy/LICENSE", "drug/toy/table.csv.gz"}  # no parts left
    assert statuses(look(toy, root)) == ["present", "present"]
    assert statuses(fetch(toy, root, QUICK)) == ["present", "present"]
    assert len(origin.asked) == 2


def test_only_what_is_missing_or_wrong_is_fetched(origin, toy, tmp_path):
    fetch(toy, tmp_path, QUICK)
    (tmp_path / "drug/toy/LICENSE").write_bytes(b"Do what I like.\n")
    assert statuses(look(toy, tmp_path)) == ["differs", "present"]
    assert statuses(fetch(toy, tmp_path, QUICK)) == ["replaced", "present"]
    assert (tmp_path / "drug/toy/LICENSE").read_bytes() == LICENCE
    (tmp_path / "drug/toy/table.csv.gz").unlink()
    assert statuses(fetch(toy, tmp_path, QUICK)) == ["present", "fetched"]


@pytest.mark.parametrize("level", [1, 6, 9])
def test_a_gzip_counts_by_its_content(toy, tmp_path, level):
    path = tmp_path / "drug/toy/table.csv.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(TABLE, level, mtime=12345))
    assert statuses(look(toy, tmp_path))[1] == "present"
    for wrong in (gzip.compress(TABLE + b"x"), gzip.compress(TABLE)[:-9], TABLE, b""):
        path.write_bytes(wrong)
        assert statuses(look(toy, tmp_path))[1] == "differs"


def test_compression_is_deterministic():
    packed = compress(TABLE)
    assert packed == compress(TABLE) and gzip.decompress(packed) == TABLE
    assert packed[3:10] == bytes([0, 0, 0, 0, 0, 2, 255])  # no name, no time, no system


@pytest.mark.parametrize("bad", [corrupted, status(404), truncated(5)])
@pytest.mark.parametrize("number", [0, 1])
def test_a_file_is_whole_or_not_there(origin, toy, tmp_path, bad, number):
    good = a_file(origin, "drug/toy/other", b"x" * 100)
    bad_one = toy.files[number]
    origin.plan = [truncated(1000), bad, status(500), status(500)]
    with pytest.raises(FetchError):
        fetch(a_set([good, bad_one]), tmp_path, QUICK)
    left = tree(tmp_path) - {"drug/toy/other"}
    assert left <= {f"{bad_one.path}.part"}
    assert statuses(look(toy, tmp_path)) == ["missing", "missing"]
    origin.plan = []  # the same again brings the rest
    assert statuses(fetch(a_set([good, bad_one]), tmp_path, QUICK)) == ["present", "fetched"]
    assert not [name for name in tree(tmp_path) if name.endswith(".part")]


def test_an_old_file_stays_where_the_new_one_does_not_come(origin, toy, tmp_path):
    path = tmp_path / "drug/toy/LICENSE"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    origin.plan = [corrupted]
    with pytest.raises(ChecksumError):
        fetch(toy, tmp_path, QUICK)
    assert path.read_bytes() == b"old"


def test_the_disk_is_asked_before_the_first_byte(origin, toy, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    root = tmp_path / "not" / "there"
    needed = sum(file.bytes for file in toy.files) + len(TABLE)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, needed - 1))
    with pytest.raises(FetchError, match=r"MB left, the download needs .* MB: make space.*--to"):
        fetch(toy, root, QUICK)
    assert not origin.asked and not root.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, needed))
    fetch(toy, root, QUICK)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    assert statuses(fetch(toy, root, QUICK)) == ["present", "present"]  # needs no space


def test_a_root_that_cannot_be_written(origin, toy, tmp_path):
    (tmp_path / "drug").write_text("a file where a folder should be")
    with pytest.raises(FetchError, match=rf"{tmp_path}/drug.* cannot be written .*--to"):
        fetch(toy, tmp_path, QUICK)
    assert not origin.asked


def test_two_fetches_of_one_set_download_it_once(origin, toy, tmp_path):
    found = []
    both = [
        threading.Thread(target=lambda: found.append(fetch(toy, tmp_path, QUICK))) for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(found) == 2 and len(origin.asked) == 2
    assert statuses(look(toy, tmp_path)) == ["present", "present"]


def test_a_fetch_waits_for_another_one(origin, toy, tmp_path, caplog):
    folder = tmp_path / "drug" / "toy"
    folder.mkdir(parents=True)
    caplog.set_level("INFO", logger="biofm_jax")
    with module._alone(folder):
        thread = threading.Thread(target=fetch, args=(toy, tmp_path, QUICK))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and not origin.asked
    thread.join(10)
    assert statuses(look(toy, tmp_path)) == ["present", "present"]
    assert f"waiting for another fetch into {folder}" in caplog.text


def test_the_root_is_the_one_given_or_the_one_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BIOFM_DATA", "/named")
    assert str(data_root(None)) == "/named" and data_root(tmp_path) == tmp_path
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("BIOFM_DATA", "~/data")
    assert str(data_root(None)) == "/home/someone/data"
    monkeypatch.delenv("BIOFM_DATA")
    with pytest.raises(UserError, match=r"--to DIR, or set BIOFM_DATA"):
        data_root(None)


@pytest.mark.parametrize("terms", ["non-commercial", "unstated"])
def test_bound_terms_need_consent(toy, terms):
    bound = a_set(toy.files, terms)
    with pytest.raises(UserError, match=r"--accept[^\n]*\n  toy: MIT"):
        check_terms([toy, bound], accept=False)
    check_terms([toy, bound], accept=True)
    check_terms([toy], accept=False)


@pytest.mark.parametrize("name", ["flip_gb1", "bbbp", "dms_blat", "deeploc_small", "flusight_2022"])
def test_real_sets_come_to_what_is_stored(origin, biofm_data, tmp_path, name):
    """The origin is played by this server; what it serves has the origin's checksums."""
    (real,) = find((name,))
    served = []
    for file in real.files:
        content = (biofm_data / file.path).read_bytes()
        content = gzip.decompress(content) if file.stored == "gzip" else content
        path = "/" + file.url.split("/", 3)[3]
        origin.files[path] = content
        fields = {**vars(file), "url": origin.url(path)}
        served.append(DataFile(**fields))
    placed = fetch(a_set(served), tmp_path, QUICK)
    assert set(statuses(placed)) == {"fetched"}
    for file in real.files:
        opened = gzip.open if file.stored == "gzip" else open
        with opened(tmp_path / file.path, "rb") as new, opened(biofm_data / file.path, "rb") as old:
            assert new.read() == old.read()
    assert os.listdir(tmp_path) == [real.folder.split("/")[0]]
