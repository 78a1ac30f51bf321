"""Answers: whole ones in JSON, and what becomes of one that is sent in pieces and not taken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web


def respond(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return `value` as JSON in UTF-8.

    Every character stands for itself: escaped, a text in Chinese takes twice the bytes. What a client sent as half a
    character, and an error quotes, has no UTF-8: it becomes a question mark.
    """
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8", headers=headers)


@contextmanager
def dropped_when_stalled(request: web.Request) -> Iterator[None]:
    """Cut the connection of a client that no longer takes its answer: begun, it cannot become an error any more.

    Raises:
        ConnectionAbortedError: within it, a TimeoutError was raised.
    """
    try:
        yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("the client stopped reading its answer") from None
