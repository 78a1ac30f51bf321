"""One client's connection: what goes wrong below the routes is told in the contract's shape too."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from pinch.gateway.faults import refuse

_TOO_MANY = json.dumps(
    {"error": {"type": "busy", "message": "too many connections", "param": None, "hint": "try again in a second"}}
).encode()
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_TOO_MANY), _TOO_MANY)


class Connection(web.RequestHandler):
    """aiohttp's protocol, with its own pages for bad HTTP, refused expectations and faults replaced."""

    __slots__ = ("_limit", "_server")

    def __init__(self, server: web.Server, limit: int, **options: Any) -> None:
        """Serve one client of `server`, unless `limit` others are connected by then."""
        super().__init__(server, **options)
        self._server = server
        self._limit = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or tell a connection over the limit so and close it."""
        assert isinstance(transport, asyncio.Transport)
        # Counted here and not where the connection is accepted: of many at once, each would see none of the others.
        if len(self._server.connections) < self._limit:
            super().connection_made(transport)
            return
        transport.set_protocol(asyncio.Protocol())
        transport.write(_REFUSAL)
        transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to bytes that are no HTTP, or to a fault of ours; the connection closes after it."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client has gone: nobody is left to answer, and nothing of ours is wrong
        if status >= 500:
            super().handle_error(request, status, exc, message)
        elif request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; only closing is left")
        # What follows a colon quotes the request, which may hold a token; it is not logged either.
        reason = (message or "").strip().partition("\n")[0].partition(":")[0]
        response = refuse(status, f"the request is not HTTP/1.1: {reason}", request.path)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; one that aiohttp raised by itself is worded anew."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = refuse(resp.status, f"{request.method} {request.path[:80]}: {resp.reason}", request.path)
        return await super().finish_response(request, resp, start_time)
