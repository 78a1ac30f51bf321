"""Reading JSON bodies within limits: of one request, and of all that are in flight."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NoReturn

from aiohttp import web

from pinch.errors import Busy, Invalid, TooLarge
from pinch.gateway.bodies import BATCH_LIMIT
from pinch.gateway.faults import UnsupportedMediaType

PARSED_FACTOR = 2
"""Bytes that a body is booked with for each byte read: itself and its parsed form."""
MARKS_LIMIT = 96 * BATCH_LIMIT
"""Strings, and signs that begin or part values, that a body may have: a full batch with every tag has 82 a memory.

More of them would be parsed to a multiple of what is booked: an empty object is 2 bytes, and 64 as Python has it.
"""
PIECE = 16 * 1024
STALL_S = 60.0
"""Seconds without a byte after which a body or a download is given up: its connection is one of few."""
ANSWER_FACTOR = 3
"""Bytes that an answer is booked with for each byte of its texts: they, the JSON, and its bytes."""
_MARK = re.compile(rb'[,\[{]|"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class InFlight:
    """Bytes of request bodies that are in memory at this moment, all connections together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int, own: int) -> None:
        """Book `size` more bytes for a body that has `own` booked; one that is alone always passes.

        Raises:
            Busy: the account is used up.
        """
        if self.used > own and self.used + size > self.limit:
            raise Busy("too many large requests at once", hint="try again in a second, or send smaller ones")
        self.used += size

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Book what a request keeps while it waits for its turn; one that is alone always passes.

        Raises:
            Busy: the account is used up.
        """
        self.take(size, 0)
        try:
            yield
        finally:
            self.used -= size

    @contextmanager
    def answering(self, size: int) -> Iterator[None]:
        """Book an answer whose texts have `size` bytes while it is made.

        Raises:
            Busy: the account is used up.
        """
        size *= ANSWER_FACTOR
        if self.used + size > self.limit:
            raise Busy("the answer is too large to make now", hint="ask for fewer at once, or try again in a second")
        self.used += size
        try:
            yield
        finally:
            self.used -= size


async def pieces(request: web.Request, size: int, stall_s: float = STALL_S) -> AsyncIterator[bytes]:
    """Yield the body in pieces of at most `size` bytes.

    Raises:
        UnsupportedMediaType: it is packed; unpacking would take memory that its size does not tell.
        Invalid: it ends too early, or for `stall_s` seconds nothing comes.
    """
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":
        raise UnsupportedMediaType(
            f"content encoding is {coding[:40]!r}; bodies are taken as they are",
            param="content-encoding",
            hint="send it unpacked",
        )
    hint = "send it again; nothing was changed"
    try:
        while True:
            async with asyncio.timeout(stall_s):
                piece = await request.content.read(size)
            if not piece:
                return
            yield piece
    except TimeoutError:
        raise Invalid(f"nothing of the body came for {stall_s:g} s", param="body", hint=hint) from None
    except web.RequestPayloadError as error:
        reason = str(error).partition("\n")[0] or "it ended before its end"
        raise Invalid(f"the body cannot be read: {reason}", param="body", hint=hint) from None


async def read_json(request: web.Request, limit: int, in_flight: InFlight) -> Any:
    """Read a JSON body of at most `limit` bytes.

    Raises:
        TooLarge: it is longer; what is over is not read.
        Invalid: it is no JSON.
    """
    if request.content_type not in {"application/json", "application/octet-stream"}:
        raise Invalid(f"content type is {request.content_type}; expected application/json", param="content-type")
    booked = 0
    data = bytearray()
    try:
        _within(request.content_length or 0, limit)
        async for piece in pieces(request, PIECE):
            _within(len(data) + len(piece), limit)
            in_flight.take(PARSED_FACTOR * len(piece), booked)
            booked += PARSED_FACTOR * len(piece)
            data += piece
        return parse_json(data)
    finally:
        in_flight.used -= booked


def _within(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(
            f"the body has {size} bytes or more; the limit is {limit}",
            param="body",
            hint="send fewer memories at once; whole documents go to PUT /v1/documents/{path}",
        )


def _within_marks(data: bytes | bytearray, what: str) -> None:
    if data.count(b",") + data.count(b"[") + data.count(b"{") + data.count(b'"') // 2 <= MARKS_LIMIT:
        return
    if sum(1 for _ in islice(_MARK.finditer(data), MARKS_LIMIT + 1)) > MARKS_LIMIT:
        raise TooLarge(
            f"the {what} has more than {MARKS_LIMIT} values", param=what, hint=f"send at most {BATCH_LIMIT} at once"
        )


def parse_json(data: bytes | bytearray, what: str = "body") -> Any:
    """Parse a body, or what else `what` says, strictly.

    Raises:
        Invalid: it is no JSON, or has a key twice, or is nested too deeply.
        TooLarge: it has more values than may be parsed at once.
    """
    hint = "send one JSON object in UTF-8"
    _within_marks(data, what)
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise Invalid(f"the {what} is not UTF-8: {error.reason} at byte {error.start}", param=what, hint=hint) from None
    except RecursionError:
        raise Invalid(f"the {what} is nested too deeply", param=what, hint=hint) from None
    except json.JSONDecodeError as error:
        raise Invalid(f"the {what} is not JSON: {error.msg} at character {error.pos}", param=what, hint=hint) from None
    except ValueError as error:
        raise Invalid(f"the {what} is not JSON: {error}", param=what, hint=hint) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found
