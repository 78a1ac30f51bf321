"""Reading JSON bodies within limits: of one request, and of all that are in flight."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from aiohttp import web
from attrs import define

from pinch.errors import Busy, Invalid, TooLarge

PARSED_FACTOR = 2
"""Bytes that a body is booked with for each byte read: itself and its parsed form."""


@define
class InFlight:
    """Bytes of request bodies that are in memory at this moment, all connections together."""

    limit: int
    used: int = 0

    def take(self, size: int) -> None:
        """Book `size` more bytes.

        Raises:
            Busy: the account is used up.
        """
        if self.used + size > self.limit:
            raise Busy("too many large requests at once", hint="try again in a second, or send smaller ones")
        self.used += size


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
        async for piece in request.content.iter_chunked(16 * 1024):
            _within(len(data) + len(piece), limit)
            in_flight.take(PARSED_FACTOR * len(piece))
            booked += PARSED_FACTOR * len(piece)
            data += piece
        return _parse(data)
    finally:
        in_flight.used -= booked


def _within(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(
            f"the body has {size} bytes or more; the limit is {limit}",
            param="body",
            hint="send fewer memories at once; whole documents go to PUT /v1/documents/{path}",
        )


def _parse(data: bytearray) -> Any:
    hint = "send one JSON object in UTF-8"
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise Invalid(f"the body is not UTF-8: {error.reason} at byte {error.start}", param="body", hint=hint) from None
    except RecursionError:
        raise Invalid("the body is nested too deeply", param="body", hint=hint) from None
    except json.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error.msg} at character {error.pos}", param="body", hint=hint) from None
    except ValueError as error:
        raise Invalid(f"the body is not JSON: {error}", param="body", hint=hint) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found
