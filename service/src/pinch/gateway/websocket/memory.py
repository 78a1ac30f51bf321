"""Methods for memories: `memory.search`, `memory.get`, `memory.remember`, `memory.forget`."""

from __future__ import annotations

from typing import Any

from pinch.gateway.bodies import MemoryBody, RecallBody
from pinch.gateway.memories import recalled
from pinch.gateway.websocket.call import Call
from pinch.gateway.websocket.params import MemoryId


async def search(call: Call[RecallBody]) -> Any:
    """Answer a query with hits that say why they are hits."""
    return await recalled(call.context, call.params.checked())


async def get(call: Call[MemoryId]) -> Any:
    """Return one memory."""
    return (await call.context.memories.get(call.params.id))._asdict()


async def remember(call: Call[MemoryBody]) -> Any:
    """Remember one text."""
    (stored,) = await call.context.memories.remember([call.params.checked()])
    return stored._asdict()


async def forget(call: Call[MemoryId]) -> Any:
    """Delete one memory."""
    await call.context.memories.forget(call.params.id)
    return {"ok": True, "id": call.params.id}
