"""Health, readiness, metrics, the budget, snapshots and the service's own description."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from aiohttp import web

from pinch.agents import portable
from pinch.errors import Conflict, StorageFull
from pinch.gateway.answers import dropped_when_stalled, respond
from pinch.gateway.auth import token_name
from pinch.gateway.context import Context, context_of
from pinch.gateway.query import Query
from pinch.gateway.reading import STALL_S, pieces
from pinch.memory import snapshot

PIECE = 64 * 1024
LOADING = "a snapshot to be loaded"


async def health(request: web.Request) -> web.Response:
    """Say that the process answers."""
    return respond({"ok": True})


async def ready(request: web.Request) -> web.Response:
    """Say whether the service can work, and to holders of a token what it waits for."""
    context = context_of(request)
    damaged = context.store.writer.damaged
    closed = context.store.closed
    is_ready = not (context.waiting_for or damaged or closed)
    body: dict[str, object] = {"ready": is_ready}
    if token_name(request) is not None:
        body["waiting_for"] = sorted(context.waiting_for)
        body["tier"] = context.tier.name
        body["store"] = f"damaged: {damaged}" if damaged else "closed" if closed else "ok"
        body["set_aside"] = str(context.store.set_aside) if context.store.set_aside else None
        body["model"] = context.embedder.trouble or ("loaded" if context.embedder.loaded else "not loaded")
    return respond(body, status=200 if is_ready else 503)


async def metrics(request: web.Request) -> web.Response:
    """Return the metrics in Prometheus' text format."""
    text = await asyncio.get_running_loop().run_in_executor(None, context_of(request).metrics.text)
    return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def budget(request: web.Request) -> web.Response:
    """Return every account's limit and use, and what the kernel says."""
    Query.of(request)
    return respond(budget_of(context_of(request)))


def budget_of(context: Context) -> dict[str, Any]:
    """Return the ledger's statement as it is told."""
    statement = context.ledger.statement()
    held = statement.sample
    accounts = [{"name": name, "limit_bytes": limit, "used_bytes": used} for name, limit, used in statement.accounts]
    return {
        "tier": statement.tier,
        "budget_bytes": statement.budget_bytes,
        "accounts": accounts,
        "rss_bytes": held.rss_bytes,
        "anonymous_bytes": held.anonymous_bytes,
        "mapped_bytes": held.mapped_bytes,
        "unattributed_bytes": statement.unattributed_bytes,
        "cgroup": held.cgroup._asdict() if held.cgroup else None,
        "pressure_signal": held.pressure_signal,
    }


async def openapi(request: web.Request) -> web.Response:
    """Return the OpenAPI document."""
    text = Path(__file__).with_name("openapi.json").read_text("utf-8")
    return web.Response(text=text, content_type="application/json")


async def save_snapshot(request: web.Request) -> web.StreamResponse:
    """Stream a consistent copy of the store."""
    context = context_of(request)
    Query.of(request)
    path = context.state_dir / "snapshot.partial"
    with ExitStack() as held:
        held.enter_context(_alone(context))
        held.callback(path.unlink, missing_ok=True)
        await context.store.readers.run_long(lambda connection: snapshot.save(connection, path))
        await asyncio.get_running_loop().run_in_executor(None, portable.pack, context.sessions.folder, path)
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.pinch.snapshot"})
        response.content_length = path.stat().st_size
        await response.prepare(request)
        with path.open("rb") as file, dropped_when_stalled(request):
            # Whoever has the last byte may come with the next snapshot at once.
            await send(response, file, before_last=held.close)
        return response


async def send(
    response: web.StreamResponse,
    file: BinaryIO,
    stall_s: float = STALL_S,
    *,
    before_last: Callable[[], None] = lambda: None,
) -> None:
    """Send a file to its end; `before_last` is called when all but its last piece is sent.

    Raises:
        TimeoutError: for `stall_s` seconds the client took nothing.
    """
    loop = asyncio.get_running_loop()
    piece = await loop.run_in_executor(None, file.read, PIECE)
    while piece:
        following = await loop.run_in_executor(None, file.read, PIECE)
        if not following:
            before_last()
        async with asyncio.timeout(stall_s):
            await response.write(piece)
        piece = following
    async with asyncio.timeout(stall_s):
        await response.write_eof()


async def load_snapshot(request: web.Request) -> web.Response:
    """Replace the store by a snapshot, after checking it from end to end."""
    context = context_of(request)
    Query.of(request)
    path = context.state_dir / "incoming.partial"
    sessions = context.state_dir / "sessions.incoming"
    loop = asyncio.get_running_loop()
    with _alone(context):
        try:
            await _receive(request, path)
            contents = await loop.run_in_executor(None, snapshot.inspect, path, portable.GUESTS)
            count = await loop.run_in_executor(None, portable.unpack, path, sessions)
            context.waiting_for.add(LOADING)
            try:
                await context.sync.stop()
                await context.indexer.stop()
                await context.agent.quiet()
                try:
                    await context.store.swap(path)
                    if count is not None:
                        await context.sessions.replace(sessions)
                        await context.agent.close_unfinished()
                    await context.store.recover()
                finally:
                    await context.indexer.start()
            finally:
                context.waiting_for.discard(LOADING)
        finally:
            path.unlink(missing_ok=True)
            await loop.run_in_executor(None, shutil.rmtree, sessions, True)
    return respond({**contents._asdict(), "sessions": count or 0})


@contextmanager
def _alone(context: Context) -> Iterator[None]:
    """Let one snapshot be saved or loaded at a time."""
    if context.snapshot_under_way:
        raise Conflict("a snapshot is being saved or loaded", hint="try again when it is done")
    context.snapshot_under_way = True
    try:
        yield
    finally:
        context.snapshot_under_way = False


async def _receive(request: web.Request, path: Path) -> None:
    loop = asyncio.get_running_loop()
    try:
        with path.open("wb") as file:
            async for piece in pieces(request, PIECE):
                await loop.run_in_executor(None, file.write, piece)
            file.flush()
            await loop.run_in_executor(None, os.fsync, file.fileno())
    except OSError as error:
        raise StorageFull(
            f"the snapshot cannot be kept: {error.strerror}; nothing was changed", hint="free some space"
        ) from None
