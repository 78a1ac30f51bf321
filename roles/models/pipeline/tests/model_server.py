"""A web server that misbehaves on demand."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

Reply = Callable[["Handler", bytes], None]


@dataclass
class Server:
    """Serves ``files``; ``replies`` says, path by path, how to answer the next requests otherwise."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    ranges: list[tuple[str, str | None]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    board: Server

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.board.ranges.append((path, self.headers.get("Range")))
        queue = self.board.replies.get(path, [])
        content = self.board.files.get(path)
        with contextlib.suppress(ConnectionError):  # clients that have seen enough hang up
            if queue:
                queue.pop(0)(self, content or b"")
            elif content is None:
                self.send_error(404)
            else:
                whole(self, content)

    def log_message(self, *_: object) -> None:
        pass


def whole(handler: Handler, content: bytes) -> None:
    """Answer with the file, or the part that was asked for."""
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    handler.send_response(206 if asked else 200)
    if asked:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start:])


def torn(handler: Handler, content: bytes) -> None:
    """Promise the whole file and hang up after half of it."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def status(code: int) -> Reply:
    """Answer with an error."""
    return lambda handler, _: handler.send_error(code)


def body(content: bytes) -> Reply:
    """Answer with something else, whatever was asked for."""

    def reply(handler: Handler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return reply
