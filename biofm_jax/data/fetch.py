"""Public benchmarks into the root of the data sets: what is right is kept, the rest is fetched."""

import contextlib
import dataclasses
import fcntl
import gzip
import hashlib
import io
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

from biofm_jax.data.download import PATIENCE, FetchError, Patience, download, sha256_of
from biofm_jax.data.progress import bar_of_download
from biofm_jax.data.registry import TERMS, DataFile, DataSet
from biofm_jax.errors import UserError
from biofm_jax.files import write_whole

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Placed:
    """What became of one file.

    Attributes:
        file: as in the registry.
        path: where it lies.
        status: "present", "fetched" or "replaced" (another file lay there); before a fetch
            "present", "missing" or "differs".
    """

    file: DataFile
    path: Path
    status: str


def data_root(to: Path | None) -> Path:
    """The root of the data sets: `to`, or else the folder that BIOFM_DATA names.

    Raises:
        UserError: neither is given.
    """
    named = to or os.environ.get("BIOFM_DATA")
    if not named:
        raise UserError("give a folder with --to DIR, or set BIOFM_DATA to the folder of data sets")
    return Path(named).expanduser()


def check_terms(sets: list[DataSet], accept: bool) -> None:
    """Refuse sets whose terms do not let everyone use them, unless the user accepts the terms.

    Raises:
        UserError: a set is non-commercial, or without a stated licence, and `accept` is false.
    """
    bound = [each for each in sets if each.terms != "open"]
    if bound and not accept:
        lines = [f"  {each.name}: {each.licence} ({TERMS[each.terms]})" for each in bound]
        raise UserError("\n".join(["these terms need your consent, --accept gives it:", *lines]))


def look(data_set: DataSet, root: Path) -> list[Placed]:
    """What of a set lies under the root: each file is "present", "missing" or "differs"."""
    return [
        Placed(file, path, _status(file, path))
        for file in data_set.files
        for path in [root / file.path]
    ]


def fetch(
    data_set: DataSet, root: Path, patience: Patience = PATIENCE, bars: bool = True
) -> list[Placed]:
    """Bring the files of a set that are not yet there, each whole or not at all.

    Args:
        data_set: from the registry.
        root: root of the data sets; made if needed.
        patience: timeouts and tries of a download.
        bars: show a progress bar on a terminal.

    Returns:
        One line a file, in the set's order: "present", "fetched" or "replaced".

    Raises:
        FetchError: a download failed, the root cannot be written or has not enough space. What
            came before stays, and so does the part of a file whose connection broke.
    """
    before = look(data_set, root)
    _check_space([each for each in before if each.status != "present"], root)
    try:
        return [
            each if each.status == "present" else _bring(each, patience, bars) for each in before
        ]
    except OSError as error:
        raise FetchError(
            f"{error.filename or root} cannot be written ({error.strerror}): "
            "mend that or give another folder with --to"
        ) from None


def _status(file: DataFile, path: Path) -> str:
    if not path.exists():
        return "missing"
    if path.is_file() and _is_right(file, path):
        return "present"
    return "differs"


def _is_right(file: DataFile, path: Path) -> bool:
    """Whether a file has its checksum, or unpacks to what the origin has."""
    try:
        if path.stat().st_size == file.bytes and sha256_of(path) == file.sha256:
            return True
        if file.stored != "gzip":
            return False
        with gzip.open(path) as unpacked:
            content = unpacked.read(file.origin_bytes + 1)
    except (OSError, EOFError, zlib.error):  # unreadable, or no gzip
        return False
    return hashlib.sha256(content).hexdigest() == file.origin_sha256


def _bring(missing: Placed, patience: Patience, bars: bool) -> Placed:
    """Download one file beside its place, check it, put it there."""
    file, path = missing.file, missing.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.parent):
        status = _status(file, path)  # another process may have brought it meanwhile
        if status == "present":
            return Placed(file, path, status)
        part = path.with_name(f"{path.name}.part")
        with bar_of_download(path.name, file.origin_bytes, bars) as report:
            download(file.url, part, file.origin_bytes, file.origin_sha256, patience, report)
        if file.stored == "gzip":
            write_whole(path, compress(part.read_bytes()))
            part.unlink()
        else:
            os.replace(part, path)
    return Placed(file, path, "fetched" if status == "missing" else "replaced")


def compress(content: bytes) -> bytes:
    """A gzip of the strongest level without name and time, so that equal bytes give equal files."""
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One fetch at a time in a folder; others wait. Where the disk has no locks, none is held."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for another fetch into %s", folder)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_space(missing: list[Placed], root: Path) -> None:
    """Files that are kept compressed are for a moment there twice."""
    if not missing:
        return
    packed = [each.file.origin_bytes for each in missing if each.file.stored == "gzip"]
    needed = sum(each.file.bytes for each in missing) + max(packed, default=0)
    folder = root.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchError(
            f"{root} has {free / 1e6:,.1f} MB left, the download needs {needed / 1e6:,.1f} MB: "
            "make space or give another folder with --to"
        )
