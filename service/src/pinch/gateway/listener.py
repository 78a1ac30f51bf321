"""The listening socket: where, over TLS or not, and for how many at once."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl

from aiohttp import web

from pinch.gateway.connection import Connection
from pinch.settings import GatewaySettings

KEEPALIVE_S = 75.0
"""Seconds that an idle connection stays open."""
LINGER_S = 5.0
"""Seconds in which the rest of a refused body is read and dropped, so that the client sees the answer."""
BACKLOG = 64


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

    def __init__(self, listen: str, gateway: GatewaySettings, limit: int) -> None:
        self.listen = listen
        self.gateway = gateway
        self.limit = limit
        """Connections that may be open at once."""
        self.address = ""
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

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
            self._server = await loop.create_server(self._protocol, host, port, ssl=context, backlog=BACKLOG)
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(f"cannot listen on {self.listen}: {error.strerror or error}") from None
        name = self._server.sockets[0].getsockname()
        self.address = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    async def stop(self, within_s: float) -> None:
        """Take no more connections, let running requests end within `within_s` seconds."""
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
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )

    def _tls(self) -> ssl.SSLContext | None:
        if not self.gateway.tls_certificate:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.gateway.tls_certificate, self.gateway.tls_key or None)
        except (OSError, ssl.SSLError) as error:
            raise ListenError(f"TLS certificate {self.gateway.tls_certificate} cannot be used: {error}") from None
        return context
