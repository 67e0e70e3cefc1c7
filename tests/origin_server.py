"""A web server of one file that behaves as badly as a test asks."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[["Handler", bytes, int], None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        origin = self.server.origin
        asked = self.headers.get("Range")
        origin.asked.append((self.path, asked))
        self.close_connection = True
        behave = origin.plan.pop(0) if origin.plan else whole
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if self.path not in origin.files:
            behave = status(404)
        behave(self, origin.files.get(self.path, b""), start)

    def answer(self, code: int, body: bytes, declared: int | None = None, **headers):
        """Headers that promise `declared` bytes (of the body by default), then the body."""
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if declared is None else declared))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have gone
            self.wfile.write(body)
            self.wfile.flush()

    def log_message(self, *_):
        """Quiet."""


class Origin:
    """Attributes: `files` by path, `plan` for the next requests, `asked` (path, Range)."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.plan: list[Behaviour] = []
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.origin = self

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.asked]


@contextlib.contextmanager
def serving() -> Iterator[Origin]:
    origin = Origin()
    thread = threading.Thread(target=origin.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield origin
    finally:
        origin.over.set()
        origin.server.shutdown()
        origin.server.server_close()
        thread.join()


def whole(handler: Handler, body: bytes, start: int) -> None:
    """As a good server does."""
    if not start:
        handler.answer(200, body)
    elif start >= len(body):
        handler.answer(416, b"", Content_Range=f"bytes */{len(body)}")
    else:
        said = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.answer(206, body[start:], Content_Range=said)


def truncated(sent: int) -> Behaviour:
    """The connection closes after `sent` bytes of what was promised."""

    def behave(handler, body, start):
        said = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        handler.answer(206 if start else 200, body[start:][:sent], len(body) - start, **said)

    return behave


def stalled(sent: int) -> Behaviour:
    """After `sent` bytes nothing comes, and the connection stays open."""

    def behave(handler, body, start):
        truncated(sent)(handler, body, start)
        handler.server.origin.over.wait(20)

    return behave


def silent(handler: Handler, body: bytes, start: int) -> None:
    """Not even headers."""
    handler.server.origin.over.wait(20)


def ignoring_range(handler: Handler, body: bytes, start: int) -> None:
    handler.answer(200, body)


def ignoring_range_and_truncated(sent: int) -> Behaviour:
    return lambda handler, body, start: handler.answer(200, body[:sent], len(body))


def another_range(handler: Handler, body: bytes, start: int) -> None:
    said = f"bytes {start + 1}-{len(body) - 1}/{len(body)}"
    handler.answer(206, body[start + 1 :], Content_Range=said)


def corrupted(handler: Handler, body: bytes, start: int) -> None:
    """Of the right length, with one byte changed at the end."""
    whole(handler, body[:-1] + bytes([body[-1] ^ 1]), start)


def replaced_by(other: bytes, kind: str) -> Behaviour:
    """Another file, such as the login page of a proxy."""
    return lambda handler, body, start: handler.answer(200, other, Content_Type=kind)


def without_length(other: bytes) -> Behaviour:
    """A body that ends when the connection does."""

    def behave(handler, body, start):
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(other)

    return behave


def in_chunks(sent: int) -> Behaviour:
    """A chunked body that breaks off inside its second chunk."""

    def behave(handler, body, start):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(b"3e8\r\n" + body[:1000] + b"\r\nfffff\r\n" + body[1000:sent])

    return behave


def status(code: int, **headers: str) -> Behaviour:
    return lambda handler, body, start: handler.answer(code, b"sorry", **headers)
