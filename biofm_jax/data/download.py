"""One URL into one file: resumed, patient with bad connections, checked by sha256."""

import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from biofm_jax.data.http_part import Passing, Refused, WrongFile, append, size_of

log = logging.getLogger(__name__)


class FetchError(RuntimeError):
    """A fetch that failed: the message names the URL or the folder, and what to do."""


class ChecksumError(FetchError):
    """The origin sent another file than the one that the table names."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to put up with a bad connection.

    Attributes:
        timeout: seconds without a byte after which a connection counts as stalled.
        attempts: tries in a row that bring no new byte, after which to give up.
        pause: seconds before the second try; it doubles with each further one.
        longest: the longest pause in seconds, also where the server asks for more.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0
    longest: float = 60.0


PATIENCE = Patience()


def download(
    url: str,
    part: Path,
    size: int,
    sha256: str,
    patience: Patience = PATIENCE,
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Bring the file of a URL to `part`, going on from what `part` holds already.

    Args:
        url: http or https; HTTPS_PROXY names a proxy.
        part: the file to fill. When the function returns it is whole and right; after a failed
            connection it keeps what came; after a wrong checksum it is deleted.
        size: bytes that the file must have.
        sha256: checksum in hex that it must have.
        patience: timeouts and tries.
        report: is given the number of bytes that are there, again and again.

    Raises:
        FetchError: the origin cannot be reached, or refuses.
        ChecksumError: another size or checksum than expected.
        OSError: `part` cannot be written.
    """
    resumed = size_of(part) > 0
    if size_of(part) > size:
        part.unlink()
    try:
        _complete(url, part, size, patience, report)
        found = sha256_of(part)
        if found != sha256:
            raise WrongFile(f"sha256 {found}")
    except WrongFile as wrong:
        part.unlink()
        if resumed:  # the bytes of an earlier run may be the wrong ones: once more, all anew
            log.info("%s does not go on from what was there; fetching it anew", url)
            download(url, part, size, sha256, patience, report)
            return
        raise ChecksumError(
            f"{url}: expected {size:,} bytes with sha256 {sha256}, found {wrong}; what came was "
            "deleted. Run the command again; if it stays so, a proxy or the origin changes the file"
        ) from None
    except (Passing, Refused) as problem:
        came = size_of(part)
        if not came:
            part.unlink(missing_ok=True)
        kept = f" {came:,} of {size:,} bytes came and are kept." if came else ""
        raise FetchError(
            f"{url}: {problem}.{kept} Check the connection (HTTPS_PROXY names a proxy) and run the "
            f"command again; or get the file by other means, save it as {part}, and run the "
            f"command again: it is used if its sha256 is {sha256}"
        ) from None


def sha256_of(path: Path) -> str:
    """The checksum of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complete(url: str, part: Path, size: int, patience: Patience, report) -> None:
    """Fill `part` up to `size` bytes; a try that brought a new byte sets the count back."""
    most, failures = size_of(part), 0
    while size_of(part) < size:
        try:
            append(url, part, size, patience.timeout, report)
            problem = Passing("the connection was closed early")
        except Passing as caught:
            problem = caught
        here = size_of(part)
        if here == size:
            return
        failures = 0 if here > most else failures + 1
        most = max(most, here)
        if failures >= patience.attempts:
            raise Passing(f"{problem}, {failures} tries in a row")
        pause = min(max(patience.pause * 2 ** max(0, failures - 1), problem.wait), patience.longest)
        log.info("%s: %s; trying again in %g s", url, problem, pause)
        time.sleep(pause)
