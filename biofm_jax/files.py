"""Files are written whole or not at all."""

import os
from pathlib import Path

from biofm_jax.errors import UserError


def require_absent(path: Path) -> None:
    """Refuse to write over something.

    Raises:
        UserError: there is a file or folder of that name.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists; name a folder that does not")


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
