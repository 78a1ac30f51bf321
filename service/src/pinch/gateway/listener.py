"""The listening socket: where, over TLS or not, and for how many at once."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from asyncio import sslproto
from contextlib import suppress

from aiohttp import web

from pinch.budget import allocator
from pinch.gateway.connection import READ_BYTES, Connection
from pinch.gateway.reading import InFlight
from pinch.settings import GatewaySettings

KEEPALIVE_S = 75.0
"""Seconds that an idle connection stays open."""
LINGER_S = 5.0
"""Seconds in which the rest of a refused body is read and dropped, so that the client sees the answer."""
BACKLOG = 64
GREETINGS = 16
"""Handshakes of TLS at once: they show no token, and each has buffers of its own."""
ACCEPT_AGAIN_S = 0.1
KERNEL_BYTES = 64 * 1024
"""What the kernel is asked to hold of a connection each way; it counts as the service's memory."""


class ListenError(ValueError):
    """The address cannot be listened on."""


def parse_listen(listen: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`.

    Raises:
        ListenError: it is neither.
    """
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ListenError(f"listen is {listen!r}; expected an address and a port, such as 127.0.0.1:18789")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Listener:
    """One socket and the connections it took."""

    def __init__(self, listen: str, gateway: GatewaySettings, limit: int, in_flight: InFlight) -> None:
        self.listen = listen
        self.gateway = gateway
        self.limit = limit
        """Connections that may be open at once."""
        self.address = ""
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self.in_flight = in_flight
        self._failed = 0
        self._accepting: list[asyncio.Task[None]] = []
        self._greeting: dict[socket.socket, asyncio.Task[None]] = {}
        """Clients in the handshake of TLS, the oldest first."""

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    @property
    def url(self) -> str:
        """Base URL of the service."""
        return f"{'https' if self.gateway.tls_certificate else 'http'}://{self.address}"

    async def start(self, app: web.Application) -> None:
        """Begin to listen.

        Raises:
            ListenError: the address is taken or wrong, or plaintext beyond loopback was not allowed.
        """
        host, port = parse_listen(self.listen)
        context = self._tls()
        if context is None and not _is_loopback(host) and not self.gateway.allow_plaintext:
            raise ListenError(
                f"listen is {self.listen}, beyond loopback and without TLS; set [gateway] tls_certificate and tls_key, "
                "or allow_plaintext = true"
            )
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._protocol, host, port, backlog=BACKLOG, start_serving=context is None
            )
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(f"cannot listen on {self.listen}: {error.strerror or error}") from None
        for one in self._server.sockets:  # what is taken here has them too; untold, the kernel lets them grow
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        if context is not None:
            self._accepting = [
                asyncio.create_task(self._accept(one, context), name="pinch-accept-tls") for one in self._listening()
            ]
        name = self._server.sockets[0].getsockname()
        self.address = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    def _listening(self) -> list[socket.socket]:
        """Return the listening sockets as such."""
        assert self._server is not None
        sockets = [socket.socket(fileno=os.dup(one.fileno())) for one in self._server.sockets]
        for one in sockets:
            one.setblocking(False)
            one.listen(BACKLOG)
        return sockets

    async def _accept(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        """Take connections over TLS: a handshake takes memory before there is a connection that is counted."""
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    client, _ = await loop.sock_accept(listening)
                except OSError:  # no descriptor is free, or the client has gone
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                if len(self._greeting) >= GREETINGS:  # the oldest makes room
                    oldest = next(iter(self._greeting))
                    del self._greeting[oldest]
                    with suppress(OSError):
                        oldest.shutdown(socket.SHUT_RDWR)
                self._greeting[client] = asyncio.create_task(self._greet(client, context), name="pinch-tls")

    async def _greet(self, client: socket.socket, context: ssl.SSLContext) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, client, ssl=context, ssl_handshake_timeout=self.gateway.handshake_timeout_s
            )
        except (OSError, TimeoutError):
            client.close()
            self._failed += 1
            if self._failed % GREETINGS == 0:  # what is left of each is cycles
                asyncio.get_running_loop().call_soon(allocator.give_back)
        finally:
            self._greeting.pop(client, None)

    async def stop(self, within_s: float) -> None:
        """Take no more connections, let running requests end within `within_s` seconds."""
        for task in (*self._accepting, *self._greeting.values()):
            task.cancel()
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            if self._runner.server is not None:
                self._runner.server.pre_shutdown()  # idle connections close at once
                await self._runner.server.shutdown(within_s)
            await self._runner.cleanup()

    def _protocol(self) -> asyncio.Protocol:
        assert self._runner is not None
        assert self._runner.server is not None
        return Connection(
            self._runner.server,
            self.limit,
            self.gateway.handshake_timeout_s,
            self.in_flight,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )

    def _tls(self) -> ssl.SSLContext | None:
        if not self.gateway.tls_certificate:
            return None
        sslproto.SSLProtocol.max_size = READ_BYTES  # its buffer, made and filled before the handshake
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.gateway.tls_certificate, self.gateway.tls_key or None)
        except (OSError, ssl.SSLError) as error:
            raise ListenError(f"TLS certificate {self.gateway.tls_certificate} cannot be used: {error}") from None
        return context
