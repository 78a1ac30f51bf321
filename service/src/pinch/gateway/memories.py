"""`/v1/memories` and `/v1/recall`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from pinch.gateway.answers import respond
from pinch.gateway.bodies import BatchBody, MemoryBody, RecallBody, checked_change
from pinch.gateway.context import Context, context_of
from pinch.gateway.query import Query
from pinch.gateway.reading import read_json
from pinch.gateway.structuring import structure
from pinch.memory import memories
from pinch.memory.memories import Memory
from pinch.memory.search import Hit, RecallRequest


def _bytes(answers: Iterable[Memory | Hit]) -> int:
    return sum(len(one.text.encode()) for one in answers)


async def create(request: web.Request) -> web.Response:
    """Remember one text, or up to 256 at once: all or none."""
    context = context_of(request)
    Query.of(request)
    raw = await read_json(request, context.max_body, context.in_flight)
    batch = isinstance(raw, dict) and "memories" in raw
    wanted = structure(raw, BatchBody).checked() if batch else [structure(raw, MemoryBody).checked()]
    stored = await context.memories.remember(wanted)
    if batch:
        return respond({"ids": [one.id for one in stored]}, status=201)
    (one,) = stored
    return respond(one._asdict(), status=201 if one.created else 200)


async def listing(request: web.Request) -> web.Response:
    """List memories, newest first."""
    query = Query.of(request, "space", "tag", "limit", "cursor")
    space, tag, limit, cursor = query.name("space"), query.name("tag"), query.limit(), query.text("cursor")
    context = context_of(request)
    page, following = await context.store.readers.run(
        lambda connection: memories.listing(connection, space=space, tag=tag, limit=limit, cursor=cursor)
    )
    with context.in_flight.answering(_bytes(page)):
        return respond({"memories": [memory._asdict() for memory in page], "cursor": following})


async def show(request: web.Request) -> web.Response:
    """Return one memory."""
    Query.of(request)
    public = request.match_info["id"]
    memory = await context_of(request).memories.get(public)
    return respond(memory._asdict())


async def change(request: web.Request) -> web.Response:
    """Change fields of one memory."""
    context = context_of(request)
    Query.of(request)
    public = request.match_info["id"]
    wanted = checked_change(await read_json(request, context.max_body, context.in_flight))
    memory = await context.memories.change(public, wanted)
    return respond(memory._asdict())


async def forget(request: web.Request) -> web.Response:
    """Delete one memory."""
    Query.of(request)
    await context_of(request).memories.forget(request.match_info["id"])
    return web.Response(status=204)


async def recall(request: web.Request) -> web.Response:
    """Answer a query with hits that say why they are hits."""
    context = context_of(request)
    Query.of(request)
    body = structure(await read_json(request, context.max_body, context.in_flight), RecallBody).checked()
    return respond(await recalled(context, body))


async def recalled(context: Context, body: RecallBody) -> dict[str, Any]:
    """Return the answer to a checked query, booked while it is made."""
    found = await context.recall.recall(RecallRequest(body.query, body.space, body.k, tuple(body.tags), body.mode))
    with context.in_flight.answering(_bytes(found.hits)):
        return {**found._asdict(), "hits": [{**hit._asdict(), "why": hit.why._asdict()} for hit in found.hits]}
