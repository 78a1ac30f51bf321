"""The HTTP application: its routes, and what surrounds every handler."""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import web

from pinch.errors import NotFound, PinchError
from pinch.gateway import chat, documents, embeddings, memories, operations, page
from pinch.gateway.auth import Handler, authorize
from pinch.gateway.connection import Connection
from pinch.gateway.context import CONTEXT, Context, context_of
from pinch.gateway.faults import MethodNotAllowed, answer, internal
from pinch.gateway.websocket import endpoint

log = logging.getLogger(__name__)

ALWAYS = frozenset({"/", page.ASSET_PATH, "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/budget"})
"""Paths that answer while the service is not ready."""


SWITCHED = 101
DOCUMENT = "/v1/documents/{path:(?s:.+)}"
"""Any path at all, line feeds too, so that a bad one is told what is wrong with it."""


def routes() -> list[web.RouteDef]:
    """Return everything there is to call."""
    return [
        web.get("/", endpoint.root, allow_head=False),
        web.get(page.ASSET_PATH, page.asset),
        web.get("/healthz", operations.health),
        web.get("/readyz", operations.ready),
        web.get("/metrics", operations.metrics),
        web.get("/openapi.json", operations.openapi),
        web.post("/v1/memories", memories.create),
        web.get("/v1/memories", memories.listing),
        web.get("/v1/memories/{id}", memories.show),
        web.patch("/v1/memories/{id}", memories.change),
        web.delete("/v1/memories/{id}", memories.forget),
        web.post("/v1/recall", memories.recall),
        web.get("/v1/documents", documents.listing),
        web.put(DOCUMENT, documents.put),
        web.get(DOCUMENT, documents.show),
        web.delete(DOCUMENT, documents.remove),
        web.post("/v1/sync", documents.start_sync),
        web.get("/v1/sync", documents.show_sync),
        web.post("/v1/embeddings", embeddings.create),
        web.post("/v1/chat/completions", chat.create),
        web.get("/v1/models", chat.models),
        web.get("/v1/models/{model}", chat.model),
        web.get("/v1/budget", operations.budget),
        web.get("/v1/snapshot", operations.save_snapshot, allow_head=False),
        web.put("/v1/snapshot", operations.load_snapshot),
    ]


def application(context: Context) -> web.Application:
    """Return the application that serves `context`."""
    app = web.Application(middlewares=[_measured, _explained, authorize, _gated])
    app[CONTEXT] = context
    app.add_routes(routes())
    return app


@web.middleware
async def _measured(request: web.Request, handler: Handler) -> web.StreamResponse:
    if isinstance(request.protocol, Connection):
        request.protocol.begun()
    begin = time.perf_counter()
    response = await handler(request)
    if response.status == SWITCHED:
        return response  # how long a WebSocket lived is no time to answer
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    context_of(request).metrics.count(route, response.status, time.perf_counter() - begin)
    return response


@web.middleware
async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into an answer of the contract's shape."""
    try:
        return await handler(request)
    except PinchError as error:
        return answer(error, request.path)
    except web.HTTPNotFound:
        return answer(
            NotFound(f"there is no {request.path[:80]}", hint="GET /openapi.json lists what there is"), request.path
        )
    except web.HTTPMethodNotAllowed as error:
        methods = ", ".join(sorted(error.allowed_methods))
        response = answer(
            MethodNotAllowed(f"{request.method} is not offered here", hint=f"the methods are {methods}"), request.path
        )
        response.headers["Allow"] = methods
        return response
    except (web.HTTPException, asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return internal(request.path)


@web.middleware
async def _gated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse work while the service cannot do it."""
    resource = request.match_info.route.resource
    if resource is None or resource.canonical not in ALWAYS:
        context_of(request).require_ready()
    return await handler(request)
