"""`/v1/documents` and `/v1/sync`."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

import attrs
from aiohttp import web

from pinch.clock import now_ms
from pinch.errors import Invalid
from pinch.gateway.answers import respond
from pinch.gateway.context import Context, context_of
from pinch.gateway.query import Query
from pinch.gateway.reading import pieces
from pinch.memory import documents
from pinch.memory.chunking import Chunker
from pinch.memory.documents import Upload, check_path

PIECE = 4 * 1024
"""Bytes of an upload that are cut at once; in between, other requests have their turn."""
DEFAULT_SPACE = "default"


def _place(request: web.Request) -> tuple[str, str]:
    try:
        unquote(request.rel_url.raw_path, errors="strict")
    except UnicodeDecodeError:
        raise Invalid("the document path is not UTF-8", param="path", hint="percent-encode UTF-8 bytes") from None
    return Query.of(request, "space").name("space") or DEFAULT_SPACE, check_path(request.match_info["path"])


async def put(request: web.Request) -> web.Response:
    """Take in a document of any size; the version before stays until the new one is whole."""
    context = context_of(request)
    space, path = _place(request)
    memory = context.settings.memory
    upload = Upload(context.store.writer, space, path, now_ms(), Chunker(memory.chunk_tokens, memory.chunk_overlap))
    try:
        async for piece in pieces(request, PIECE):
            await upload.feed(piece)
            await asyncio.sleep(0)
        stored = await upload.finish()
    except BaseException:
        await asyncio.shield(upload.abandon())
        raise
    context.indexer.wake()
    answer = {**stored.document._asdict(), "created": stored.created, "changed": stored.changed}
    return respond(answer, status=201 if stored.created else 200)


async def show(request: web.Request) -> web.Response:
    """Return what is known of one document."""
    space, path = _place(request)
    document = await context_of(request).store.readers.run(lambda connection: documents.get(connection, space, path))
    return respond(document._asdict())


async def remove(request: web.Request) -> web.Response:
    """Delete one document with its chunks."""
    context = context_of(request)
    space, path = _place(request)
    await context.store.writer.run(lambda connection: documents.remove(connection, space, path))
    context.indexer.wake()
    return web.Response(status=204)


async def listing(request: web.Request) -> web.Response:
    """List the documents of a space by path."""
    query = Query.of(request, "space", "prefix", "limit", "cursor")
    space, limit = query.name("space") or DEFAULT_SPACE, query.limit()
    prefix, cursor = query.text("prefix") or "", query.text("cursor")
    page, following = await context_of(request).store.readers.run(
        lambda connection: documents.listing(connection, space=space, prefix=prefix, limit=limit, cursor=cursor)
    )
    return respond({"documents": [document._asdict() for document in page], "cursor": following})


async def start_sync(request: web.Request) -> web.Response:
    """Start a sync of the configured folders."""
    Query.of(request)
    context = context_of(request)
    context.sync.start()
    return respond(await _progress(context), status=202)


async def show_sync(request: web.Request) -> web.Response:
    """Return how far sync and embedding are."""
    Query.of(request)
    return respond(await _progress(context_of(request)))


async def _progress(context: Context) -> dict[str, object]:
    embedding = {
        "model": context.embedder.manifest.name if context.embedder.manifest else None,
        "loaded": context.embedder.loaded,
        "pending": await context.indexer.pending(),
        "done": context.indexer.done,
        "trouble": context.embedder.trouble or context.indexer.trouble or None,
    }
    folders = [str(folder) for folder in context.sync.folders]
    return {**attrs.asdict(context.sync.progress), "folders": folders, "embedding": embedding}
