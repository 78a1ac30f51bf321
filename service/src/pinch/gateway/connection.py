"""One client's connection: what goes wrong below the routes is told in the contract's shape too."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from typing import Any

from aiohttp import StreamReader, web

from pinch.errors import Busy
from pinch.gateway.faults import answer, refuse
from pinch.gateway.inbox import Inbox
from pinch.gateway.reading import STALL_S, InFlight

PATIENCE_S = 0.2
"""Seconds that a connection without a token is let be, however full the service is."""
SMALL_ANSWER_BYTES = 64 * 1024
"""Bytes of an answer that the kernel takes by itself, as good as always."""
HEAD_BYTES = 32 * 1024
"""Bytes that a request's line and headers may have together."""
READ_BYTES = 16 * 1024
"""Bytes that are read from a socket at once; asyncio's 256 KiB are most of what a connection may take."""

_TOO_MANY = json.dumps(
    {"error": {"type": "busy", "message": "too many connections", "param": None, "hint": "try again in a second"}}
).encode()
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_TOO_MANY), _TOO_MANY)


class Connection(web.RequestHandler):
    """aiohttp's protocol, with its own pages for bad HTTP, refused expectations and faults replaced."""

    __slots__ = (
        "_deadline", "_head", "_in_flight", "_limit", "_made_at", "_payload", "_server", "_start_s", "inbox", "trusted",
    )  # fmt: skip

    def __init__(self, server: web.Server, limit: int, start_s: float, in_flight: InFlight, **options: Any) -> None:
        """Serve one client of `server`, unless `limit` others are connected by then.

        Its first request has to be there within `start_s` seconds.
        """
        super().__init__(server, **options)
        self._server = server
        self._limit = limit
        self._in_flight = in_flight
        """Books large answers until they are taken."""
        self._start_s = start_s
        self._made_at = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self._head = 0
        """Bytes of a request's head that is not complete."""
        self._payload: StreamReader | None = None
        """Body of the last request."""
        self.inbox: Inbox | None = None
        """Counts what comes in once this is a WebSocket."""
        self.trusted = False
        """Whether a valid token has been shown."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or tell a connection over the limit so and close it."""
        assert isinstance(transport, asyncio.Transport)
        loop = asyncio.get_running_loop()
        self._made_at = loop.time()
        # Counted here and not where the connection is accepted: of many at once, each would see none of the others.
        if len(self._server.connections) < self._limit or self._displace():
            transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # asyncio's own name for it
            super().connection_made(transport)
            self._deadline = loop.call_later(self._start_s, transport.abort)
            return
        transport.set_protocol(asyncio.Protocol())
        transport.write(_REFUSAL)
        transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self.begun()
        if self.inbox is not None:
            self.inbox.close()
        super().connection_lost(exc)

    def begun(self) -> None:
        """Hear that a request has come: from now on other limits hold."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket, those of a WebSocket counted."""
        if self.inbox is not None:
            if self.inbox.arrived(data):
                super().data_received(data)
            return
        requests, in_body = self._request_count, self._payload is not None and not self._payload.is_eof()
        super().data_received(data)
        if self._request_count > requests:
            self._payload, self._head = self._messages[-1][1], 0
        elif not in_body:
            self._head += len(data)
            if self._head > HEAD_BYTES and self.transport is not None:
                self.transport.abort()

    def _displace(self) -> bool:
        """Cut off the oldest connection that has shown no token, so that nobody without one can keep others out."""
        patience = asyncio.get_running_loop().time() - PATIENCE_S
        others = (one for one in self._server.connections if isinstance(one, Connection))
        doubtful = [one for one in others if not one.trusted and one._made_at < patience and one.transport is not None]
        if not doubtful:
            return False
        oldest = min(doubtful, key=lambda one: one._made_at)
        transport = oldest.transport
        assert transport is not None
        oldest.trusted = True  # chosen once
        transport.abort()
        return True

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
        size = len(resp.body) if isinstance(resp, web.Response) and isinstance(resp.body, bytes) else 0
        with ExitStack() as held:
            if size > SMALL_ANSWER_BYTES:
                try:
                    held.enter_context(self._in_flight.holding(size))
                except Busy as error:
                    resp = answer(error, request.path)
            try:
                async with asyncio.timeout(STALL_S):
                    finished = await super().finish_response(request, resp, start_time)
            except TimeoutError:
                if self.transport is not None:
                    self.transport.abort()
                raise ConnectionAbortedError("the client stopped reading its answer") from None
        if isinstance(finished[0], web.Response):
            finished[0].body = None  # aiohttp keeps the last answer until the next request comes
        return finished
