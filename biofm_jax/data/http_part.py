"""One request for the rest of a file: what comes is kept, whatever happens to the connection."""

import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import biofm_jax

CHUNK = 1 << 16  # bytes
LATER = {408, 425, 429, 500, 502, 503, 504}  # statuses that pass
MEANING = {
    401: "the origin asks for a login",
    403: "the origin or a proxy refuses it",
    404: "the origin has it no longer",
    410: "the origin has it no longer",
}


class Passing(Exception):
    """A failure that may pass: its reason, and the seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


class Refused(Exception):
    """A failure that trying again does not mend."""


class WrongFile(Exception):
    """The server has another file: what was found, in words."""


def append(url: str, part: Path, size: int, timeout: float, report: Callable[[int], None]) -> None:
    """Ask for the bytes that `part` lacks and append them; one try.

    Args:
        url: http or https.
        part: the file so far, which may be missing. A server that ignores the Range of the
            request sends the file from its start, and so does the file start again.
        size: bytes of the whole file.
        timeout: seconds without a byte after which a connection counts as stalled.
        report: is given the number of bytes that are there, after each piece.

    Raises:
        Passing: the connection failed, or the server cannot answer now.
        Refused: the server does not give the file, or is not trusted.
        WrongFile: the server's file has not `size` bytes.
        OSError: `part` cannot be written.
    """
    here = size_of(part)
    headers = {"User-Agent": f"biofm_jax/{biofm_jax.__version__}", "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
    with part.open("ab", buffering=0) as file:
        try:
            response = urllib.request.urlopen(
                urllib.request.Request(url, headers=headers), timeout=timeout
            )
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # what is here is not a part of that file
                file.truncate(0)
            raise _failure(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise _broken(error, timeout) from None
        with response:
            start, total = _place(response)
            if start not in (0, here):
                file.truncate(0)
                raise Passing("the server sent another part of the file than asked for")
            if total not in (None, size):
                kind = response.headers.get("Content-Type", "unknown type")
                raise WrongFile(f"{total:,} bytes of {kind}")
            file.truncate(start)
            report(start)
            while chunk := _next(response, timeout):
                start += len(chunk)
                if start > size:
                    raise WrongFile("more bytes")
                file.write(chunk)
                report(start)


def size_of(part: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return part.stat().st_size if part.exists() else 0


def _next(response, timeout: float) -> bytes:
    """The bytes that are there: `read1` waits for no more, so a stall loses none."""
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _broken(error, timeout) from None


def _place(response) -> tuple[int, int | None]:
    """Where in the file the answer starts, and the size of the file if the server says it."""
    if response.status == 206:
        said = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
        if found is None:
            return -1, None
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _failure(error: urllib.error.HTTPError) -> Passing | Refused:
    """What a status means."""
    told = f"{error.code} {error.reason}"
    if error.code in LATER:
        wait = error.headers.get("Retry-After", "")
        return Passing(told, float(wait) if wait.isdigit() else 0.0)
    if error.code == 416:
        return Passing(told)
    return Refused(f"{told}: {MEANING.get(error.code, 'the origin does not give it')}")


def _broken(error: Exception, timeout: float) -> Passing | Refused:
    """What a failed connection means."""
    cause = getattr(error, "reason", error)  # URLError wraps the error of the socket
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Refused(
            f"the certificate of the server is not trusted ({cause.verify_message}); "
            "SSL_CERT_FILE names the certificates to trust"
        )
    if isinstance(cause, TimeoutError):
        return Passing(f"no byte for {timeout:g} s")
    return Passing(f"the connection failed ({str(cause) or type(cause).__name__})")
