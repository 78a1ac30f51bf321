"""`/`: an upgrade is the gateway, a plain GET the page."""

from __future__ import annotations

from aiohttp import web

from pinch.gateway.context import context_of
from pinch.gateway.page import page
from pinch.gateway.query import Query
from pinch.gateway.websocket.client import FIRST_BYTES, MESSAGE_BYTES, Client
from pinch.gateway.websocket.methods import METHODS, serve
from pinch.gateway.websocket.socket import Socket


async def root(request: web.Request) -> web.StreamResponse:
    """Serve a WebSocket client until it is gone, or the page."""
    Query.of(request)  # a token in a URL would stand in logs and histories
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return await page(request)
    context = context_of(request)
    socket = Socket(
        request,
        context.in_flight,
        limit=MESSAGE_BYTES,
        first_limit=FIRST_BYTES,
        untaken_limit=context.pool.buffer_bytes,
    )
    response = await socket.accept()
    client = Client(socket, context, context.pool, tuple(METHODS), serve)
    context.pool.begin(client)
    try:
        await client.run()
    finally:
        context.pool.leave(client)
        await socket.closed()
    return response
