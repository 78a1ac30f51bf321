"""Who may call: bearer tokens, and the hosts and origins that browsers may use."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import web

from pinch.gateway.connection import Connection
from pinch.gateway.context import context_of
from pinch.gateway.faults import Forbidden, Unauthorized
from pinch.gateway.listener import parse_listen
from pinch.gateway.page import ASSET_PATH

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_PATHS = frozenset({"/", ASSET_PATH, "/healthz", "/readyz"})
"""Paths that need no token: health, the page, and the WebSocket, whose first frame carries it."""


def token_name(request: web.Request) -> str | None:
    """Return the name of the token that `request` carries, or None where it carries no valid one."""
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented:
        return None
    return context_of(request).tokens.match(presented.strip(), datetime.now(UTC))


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let through who holds a token, from a host and origin that may call."""
    check_host(request)
    _check_origin(request)
    resource = request.match_info.route.resource
    if token_name(request) is not None:
        trust(request)
    elif resource is None or resource.canonical not in OPEN_PATHS:
        hint = "send `Authorization: Bearer TOKEN`; `pinch token show` prints one"
        if "Authorization" not in request.headers:
            raise Unauthorized("a token is needed", hint=hint)
        raise Unauthorized("the token is not valid", hint=hint)
    return await handler(request)


def trust(request: web.Request) -> None:
    """Let the connection of a request that carries a token stay where others have to make room."""
    if isinstance(request.protocol, Connection):
        request.protocol.trusted = True


def check_host(request: web.Request) -> None:
    """Refuse names that are not ours: a page elsewhere may have pointed its own name at this address."""
    # Not `request.host`: without the header it asks the resolver for this machine's name, and waits for it.
    given = request.headers.get("Host", "")
    try:
        host = urlsplit(f"//{given}").hostname or ""
    except ValueError:
        raise Forbidden(f"host {given[:80]!r} is no name", hint="send the name or address of the service") from None
    settings = context_of(request).settings
    listening, _ = parse_listen(settings.listen)
    if host in {"localhost", listening.lower(), *settings.gateway.allowed_hosts} or _is_address(host):
        return
    raise Forbidden(f"host {host[:80]!r} is not served here", hint="add it to [gateway] allowed_hosts")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_origin(request: web.Request) -> None:
    origin = request.headers.get("Origin")
    if origin is None or origin in context_of(request).settings.gateway.allowed_origins:
        return
    with suppress(ValueError):
        if urlsplit(origin).netloc == request.headers.get("Host", ""):
            return
    raise Forbidden(f"origin {origin[:80]!r} may not call", hint="add it to [gateway] allowed_origins")
