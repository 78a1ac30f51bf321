"""One WebSocket: text messages in, frames out, each way within a limit."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WSMsgType, web

from pinch.gateway.connection import Connection
from pinch.gateway.inbox import Inbox
from pinch.gateway.reading import InFlight

CLOSE_S = 2.0
"""Seconds that a client has to answer a close, and to take what was sent before it."""
UNSENDABLE = frozenset({1004, 1005, 1006, 1015})
"""Close codes that no frame may carry (RFC 6455, section 7.4.1)."""
HIGHEST_CODE = 4999
NORMAL = 1000
PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003
POLICY_VIOLATION = 1008
REASON_BYTES = 123
"""Bytes that the reason of a close may have."""


class Socket:
    """The library's socket, bounded: what comes in pieces, what waits to be taken, how long it takes to close."""

    def __init__(
        self, request: web.Request, in_flight: InFlight, *, limit: int, first_limit: int, untaken_limit: int
    ) -> None:
        """Take the connection of `request`; until `trust` a message may have `first_limit` bytes, then `limit`."""
        # Compression would keep a window for each connection. The writer never waits by itself: who sends
        # looks at `untaken` first.
        self._ws = web.WebSocketResponse(
            compress=False, autoping=False, autoclose=False, timeout=CLOSE_S, max_msg_size=limit, writer_limit=2**40
        )
        assert isinstance(request.protocol, Connection)
        self._connection = request.protocol
        self._request = request
        self.limit = limit
        self.untaken_limit = untaken_limit
        """Bytes that may wait for the client to take them."""
        self._inbox = Inbox(in_flight, first_limit, self.close, self._abort)
        self._closing: asyncio.Task[None] | None = None

    async def accept(self) -> web.WebSocketResponse:
        """Answer the upgrade; return the response for the server.

        Raises:
            web.HTTPBadRequest: it is no proper upgrade.
        """
        self._connection.inbox = self._inbox
        await self._ws.prepare(self._request)
        return self._ws

    def trust(self) -> None:
        """Let messages of the full size in: the client has shown a token."""
        self._inbox.limit = self.limit
        self._connection.trusted = True

    @property
    def untaken(self) -> int:
        """Bytes that were sent and wait here for the client to take them."""
        transport = self._request.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    @property
    def open(self) -> bool:
        """Whether it can still be sent to."""
        return self._closing is None and not self._ws.closed and self._request.transport is not None

    def unfinished_since(self) -> float | None:
        """Return the loop time at which a message began that has not ended."""
        return self._inbox.since

    async def receive(self) -> str | bytes | None:
        """Return the next message, text or binary, or None when the client has closed or broken the rules."""
        while True:
            message = await self._ws.receive()
            if message.type is WSMsgType.TEXT:
                self._inbox.taken()
                return str(message.data)
            if message.type is WSMsgType.BINARY:
                self._inbox.taken()
                return bytes(message.data)
            if message.type is WSMsgType.PING:
                self._inbox.taken()
                if self.open and self.untaken <= self.untaken_limit:
                    with suppress(ConnectionError):
                        await self._ws.pong(message.data)
                else:
                    self.close(POLICY_VIOLATION, "slow consumer")
            elif message.type is WSMsgType.PONG:
                self._inbox.taken()
            elif message.type is WSMsgType.CLOSE:
                code = message.data or NORMAL
                await self._close(PROTOCOL_ERROR if code in UNSENDABLE or code > HIGHEST_CODE else code, "")
                return None
            else:
                return None

    async def send(self, data: bytes, kind: WSMsgType = WSMsgType.TEXT) -> None:
        """Hand a message to the kernel or, as far as that does not take it, to the buffer; never waits."""
        if self.open:
            with suppress(ConnectionError):
                await self._ws.send_frame(data, kind)

    def close(self, code: int, reason: str) -> None:
        """Begin to close; a client that does not take it is cut off."""
        if self._closing is None:
            self._inbox.leave()
            self._closing = asyncio.create_task(self._close(code, reason), name="pinch-close")

    def drop(self) -> None:
        """Cut the connection off at once, with what it has not taken."""
        self._inbox.close()
        self._abort()

    async def closed(self) -> None:
        """Wait until a close that was begun is done, and give back what is booked."""
        if self._closing is not None:
            # What the client answers the close with has to come through.
            await asyncio.wait({self._closing})
        elif not self._ws.closed:
            self._abort()
        self._inbox.close()

    async def _close(self, code: int, reason: str) -> None:
        told = reason.encode()[:REASON_BYTES].decode("utf-8", "ignore").encode()
        try:
            async with asyncio.timeout(2 * CLOSE_S):
                await self._ws.close(code=code, message=told, drain=False)
        except (TimeoutError, ConnectionError, RuntimeError):
            pass
        finally:
            if self.untaken:
                # Closing politely waits for a buffer that nobody may ever take.
                asyncio.get_running_loop().call_later(CLOSE_S, self._abort)

    def _abort(self) -> None:
        transport = self._request.transport
        if transport is not None:
            transport.abort()
