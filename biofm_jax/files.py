"""Files and folders are written whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from biofm_jax.errors import UserError


def require_absent(path: Path) -> None:
    """Refuse to write over something.

    Raises:
        UserError: there is a file or folder of that name.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists; name a folder that does not")


def require_new_folder(path: Path) -> None:
    """Refuse a folder that is there, or that cannot be made, before the work that fills it.

    Raises:
        UserError: there is something of that name, or no folder above it can be written to.
    """
    require_absent(path)
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"{path} cannot be written: {above} is no folder; name another")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: {above} may not be written to; name another")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder under a temporary name, renamed to `path` when the block is done, else removed.

    Raises:
        UserError: something is there already, or a folder cannot be made there.
    """
    require_absent(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; name another") from None
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file under a temporary name and rename it.

    Args:
        path: the file; its folder is made if needed.
        content: bytes, or text to be written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def refuse_address(path: str | Path, field: str) -> None:
    """Refuse gs://... and the like, which would become a local folder of that name.

    Raises:
        UserError: names `field` and the way to read a bucket.
    """
    scheme, found, rest = str(path).partition(":/")
    if found and scheme.isalnum() and len(scheme) > 1 and scheme != "rdkit":
        raise UserError(
            f"{field} is {path}: files are read and written in folders; mount the bucket (gcsfuse "
            f"for gs://) and give {field} /MOUNT/{rest.lstrip('/')}"
        )
