"""Methods that say how the service is: `health`, `status`, `budget`, `config.get`, `system-presence`, `logs.tail`."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from attrs import asdict

from pinch import __version__
from pinch.clock import now_ms
from pinch.errors import Invalid
from pinch.gateway.operations import budget_of
from pinch.gateway.websocket.call import Call
from pinch.gateway.websocket.params import LogsTail, Nothing

RECENT = 5
LINES_LIMIT = 5000
BYTES_LIMIT = 1_000_000
"""What may be asked for, as OpenClaw has it; the log that is kept is far shorter."""


async def health(call: Call[Nothing]) -> Any:
    """Say that the service answers, and what it looks after."""
    context = call.context
    begin = time.perf_counter()
    sessions = context.sessions.listing()
    now = now_ms()
    recent = [{"key": one.key, "updatedAt": one.updated_at, "age": now - one.updated_at} for one in sessions[:RECENT]]
    summary = {"path": str(context.sessions.folder), "count": len(sessions), "recent": recent}
    damaged = context.store.writer.damaged
    return {
        "ok": not (context.waiting_for or damaged or context.store.closed),
        "ts": now,
        "durationMs": round((time.perf_counter() - begin) * 1000, 3),
        "channels": {},
        "channelOrder": [],
        "channelLabels": {},
        "heartbeatSeconds": 0,
        "defaultAgentId": "main",
        "agents": [{"agentId": "main", "isDefault": True, "heartbeat": {"enabled": False}, "sessions": summary}],
        "sessions": summary,
    }


async def status(call: Call[Nothing]) -> Any:
    """Say what goes on."""
    context = call.context
    held = context.ledger.statement()
    provider = context.settings.provider
    return {
        "version": __version__,
        "runtimeVersion": __version__,
        "tier": context.tier.name,
        "uptimeMs": call.pool.uptime_ms,
        "connections": {"clients": len(call.pool.clients), "limit": call.pool.limit},
        "runs": {"running": context.agent.running, "waiting": context.bus.prompts.waiting()},
        "sessions": {"count": len(context.sessions), "limit": context.sessions.count_limit},
        "provider": {"configured": context.agent.provider.configured, "model": provider.model},
        "memory": {
            "budgetBytes": held.budget_bytes,
            "anonymousBytes": held.sample.anonymous_bytes,
            "rssBytes": held.sample.rss_bytes,
            "model": context.embedder.trouble or ("loaded" if context.embedder.loaded else "not loaded"),
        },
    }


async def budget(call: Call[Nothing]) -> Any:
    """Return every account's limit and use, and what the kernel says."""
    return budget_of(call.context)


async def config(call: Call[Nothing]) -> Any:
    """Return the settings as they hold; secrets stand in files of their own, and not here."""
    settings = asdict(call.context.settings)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return {"exists": True, "valid": True, "issues": [], "hash": digest, "config": settings}


async def presence(call: Call[Nothing]) -> Any:
    """Return who is connected."""
    return call.pool.presence()


async def logs_tail(call: Call[LogsTail]) -> Any:
    """Return the last lines of the log, or those after a cursor."""
    wanted = call.params
    if not (1 <= wanted.limit <= LINES_LIMIT and 1 <= wanted.maxBytes <= BYTES_LIMIT):
        raise Invalid(f"limit or maxBytes is out of range; expected 1 to {LINES_LIMIT}, 1 to {BYTES_LIMIT}")
    if wanted.cursor is not None and wanted.cursor < 0:
        raise Invalid(f"cursor is {wanted.cursor}; expected 0 or more", param="cursor")
    tail = call.context.logbook.tail(wanted.cursor, wanted.limit, wanted.maxBytes)
    return {"file": "memory", **tail._asdict()}
