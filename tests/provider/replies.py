"""What a scripted provider can say, part by part, and the replies that have a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LARGE_BYTES = 100 * 2**20


class Text(NamedTuple):
    """Words of the answer, a chunk each."""

    text: str


class ToolCall(NamedTuple):
    """A call of a tool; text as arguments goes out as it is, broken JSON too."""

    name: str
    arguments: Mapping[str, Any] | str


class Hold(NamedTuple):
    """Says nothing until `release`; as the first part not even a header."""


class Line(NamedTuple):
    """A line that is put into the stream as it is."""

    line: bytes


class Sliver(NamedTuple):
    """From here on everything goes out a few bytes a write, so lines and characters are split."""

    bytes: int = 3


class Flood(NamedTuple):
    """An answer of many bytes, in chunks or as one event without a line's end."""

    bytes: int = LARGE_BYTES
    chunk_bytes: int = 65_536
    one_line: bool = False


class Endless(NamedTuple):
    """Words without end."""


class Cut(NamedTuple):
    """Ends here: closes the connection, or ends the body as HTTP wants with `clean`."""

    after_reason: bool = False
    """Only `[DONE]` is missing."""
    clean: bool = False


class Finish(NamedTuple):
    """Ends the answer for this reason instead of `stop` or `tool_calls`."""

    reason: str


class Status(NamedTuple):
    """An error in OpenAI's shape; after so many `times` for one message the parts behind it are said."""

    status: int
    message: str
    type: str = "server_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = {}
    times: int | None = None


class Body(NamedTuple):
    """Status 200 and these bytes."""

    content: bytes
    content_type: str = "application/json"


class Redirect(NamedTuple):
    """Sends the client elsewhere; without a location, to the same address for ever."""

    location: str = ""
    status: int = 307


Part = Text | ToolCall | Hold | Line | Sliver | Flood | Endless | Cut | Finish | Status | Body | Redirect
Reply = Sequence[Part]

SAID = (Text("This much was said"),)
UNKNOWN_KEY = Status(401, "the key is not known", type="invalid_request_error", code="invalid_api_key")
OVERLONG = Status(
    400,
    "the messages are longer than this model's context",
    type="invalid_request_error",
    code="context_length_exceeded",
    param="messages",
)
RATE_LIMITED = Status(
    429, "too many requests", type="requests", code="rate_limit_exceeded", headers={"Retry-After": "1"}
)
BEHAVIOURS: dict[str, Reply] = {
    "slow-first": [Hold(), *SAID],
    "slow-between": [*SAID, Hold(), Text(" and more")],
    "garbage": [Body(b"<html>not what you asked for")],
    "garbage-lines": [*SAID, Line(b"data: {kettle"), Line(b"\x00\xff\xfe"), Line(b"data: [1, 2]"), Text(" and more")],
    "garbage-only": [Body(b"kettle\n\ndata: \xff{\n\ndata: 5\n\n", "text/event-stream")],
    "comments": [Line(b": working"), *SAID, Line(b": still working"), Line(b"")],
    "slivers": [Sliver(), Text("Wasserkocher größer als 水壺")],
    "cut": [*SAID, Cut()],
    "cut-at-once": [Cut()],
    "cut-in-line": [*SAID, Line(b'data: {"id": "x", "cho'), Cut()],
    "cut-clean": [*SAID, Cut(clean=True)],
    "no-done": [*SAID, Cut(after_reason=True, clean=True)],
    "401": [UNKNOWN_KEY],
    "429": [RATE_LIMITED],
    "429-once": [RATE_LIMITED._replace(times=1), Text("at last")],
    "429-an-hour": [RATE_LIMITED._replace(headers={"Retry-After": "3600"})],
    "quota": [Status(429, "the quota is used up", type="insufficient_quota", code="insufficient_quota")],
    "500": [Status(500, "something broke")],
    "500-once": [Status(500, "something broke", times=1), Text("at last")],
    "500-twice": [Status(500, "something broke", times=2), Text("at last")],
    "503-once": [Status(503, "overloaded", headers={"Retry-After": "1"}, times=1), Text("at last")],
    "endless": [Endless()],
    "large": [Flood()],
    "large-line": [Flood(one_line=True)],
    "length": [*SAID, Finish("length")],
    "content-filter": [*SAID, Finish("content_filter")],
    "context-length": [OVERLONG],
    "empty": [],
    "redirect": [Redirect()],
    "redirect-away": [Redirect("http://192.0.2.1/v1/chat/completions")],
    "html": [Body(b"<!doctype html><title>Sign in</title>", "text/html")],
    "nothing": [Body(b"")],
    "null": [Body(b"null")],
    "no-choices": [Body(b'{"object": "chat.completion", "choices": []}')],
    "broken-arguments": [ToolCall("recall", '{"query": "ket'), Text("at last")],
    "unknown-tool": [ToolCall("no_such_tool", {}), Text("at last")],
}
