"""The table of methods, and how one is called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pinch.errors import NotFound
from pinch.gateway.bodies import MemoryBody, RecallBody
from pinch.gateway.structuring import structure
from pinch.gateway.websocket import chat, memory, overview, sessions
from pinch.gateway.websocket.call import Call
from pinch.gateway.websocket.client import Client, Respond
from pinch.gateway.websocket.frames import BadFrame, Request
from pinch.gateway.websocket.params import (
    AgentTurn,
    ChatAbort,
    ChatHistory,
    ChatSend,
    LogsTail,
    MemoryId,
    Nothing,
    SessionKey,
    SessionsList,
    SessionsPreview,
)

Method = Callable[[Call[Any]], Awaitable[Any]]

METHODS: dict[str, tuple[type, Method]] = {
    "health": (Nothing, overview.health),
    "status": (Nothing, overview.status),
    "budget": (Nothing, overview.budget),
    "config.get": (Nothing, overview.config),
    "system-presence": (Nothing, overview.presence),
    "logs.tail": (LogsTail, overview.logs_tail),
    "sessions.list": (SessionsList, sessions.listing),
    "sessions.preview": (SessionsPreview, sessions.preview),
    "sessions.reset": (SessionKey, sessions.reset),
    "sessions.delete": (SessionKey, sessions.delete),
    "chat.send": (ChatSend, chat.send),
    "chat.history": (ChatHistory, sessions.history),
    "chat.abort": (ChatAbort, chat.abort),
    "agent": (AgentTurn, chat.agent),
    "memory.search": (RecallBody, memory.search),
    "memory.get": (MemoryId, memory.get),
    "memory.remember": (MemoryBody, memory.remember),
    "memory.forget": (MemoryId, memory.forget),
}


async def serve(client: Client, request: Request, respond: Respond) -> Any:
    """Call the method that `request` names; return what it answers.

    Raises:
        PinchError: what is wrong with the request, or with the service.
    """
    if request.method == "connect":
        raise BadFrame("this connection is connected already", request.id)
    if request.method not in METHODS:
        raise NotFound(f"there is no method {request.method[:60]!r}", param="method", hint="hello-ok lists them")
    kind, method = METHODS[request.method]
    # Not kept here in a name: a method that waits lets its parameters go.
    return await method(Call(structure(dict(request.params), kind), client.context, client, client.pool, respond))
