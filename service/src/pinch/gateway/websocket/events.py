"""What runs say, as `chat` and `agent` events to every client."""

from __future__ import annotations

import sys
from typing import Any

from pinch.agents.errors import ProviderError
from pinch.agents.events import Delta, Event, Finished, ToolUse
from pinch.clock import now_ms
from pinch.gateway.websocket import frames
from pinch.gateway.websocket.pool import Pool

OLD_PROTOCOL = 3
"""Clients of this protocol take a delta as the whole text so far."""


class _Told:
    """What has been told of one run."""

    def __init__(self) -> None:
        self.seq = 0
        self.text: list[str] = []


class RunEvents:
    """Numbers the events of each run and sends them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._told: dict[tuple[str, str], _Told] = {}

    @property
    def used(self) -> int:
        """Bytes of the texts so far."""
        return sum(sys.getsizeof(piece) for told in self._told.values() for piece in told.text)

    async def handle(self, event: Event) -> None:
        """Send an event; the bus calls it. A run without a session is its caller's alone."""
        if event.session is None:
            return
        name = (event.session, event.run)
        told = self._told.setdefault(name, _Told())
        if isinstance(event, ToolUse):
            await self.pool.broadcast(self._tool(event, told))
        elif isinstance(event, Delta):
            told.text.append(event.text)
            await self._delta(event, told)
        else:
            del self._told[name]
            for client in self.pool.clients:
                client.runs.discard(name)
            await self.pool.broadcast(self._end(event, told))
        told.seq += 1

    async def _delta(self, event: Delta, told: _Told) -> None:
        base = {"runId": event.run, "sessionKey": event.session, "seq": told.seq, "state": "delta"}
        new = frames.Event("chat", {**base, "deltaText": event.text})
        if not self.pool.speaks(OLD_PROTOCOL):
            await self.pool.broadcast(new)
            return
        told.text[:] = ["".join(told.text)]
        old = frames.Event(
            "chat", {**base, "deltaText": event.text, "message": message("assistant", told.text[0], now_ms())}
        )
        await self.pool.broadcast_by_protocol({3: old, 4: new})

    @staticmethod
    def _end(event: Finished, told: _Told) -> frames.Event:
        payload: dict[str, Any] = {
            "runId": event.run,
            "sessionKey": event.session,
            "seq": told.seq,
            "state": event.state,
            "stopReason": event.stop or event.state,
        }
        if event.text or event.state == "final":
            payload["message"] = message("assistant", event.text, event.at)
        if event.usage:
            payload["usage"] = event.usage
        if event.error is not None:
            hint = f"; {event.error.hint}" if event.error.hint else ""
            payload["errorMessage"] = event.error.message + hint
            payload["errorKind"] = event.error.kind if isinstance(event.error, ProviderError) else "unknown"
        return frames.Event("chat", payload)

    @staticmethod
    def _tool(event: ToolUse, told: _Told) -> frames.Event:
        data = {"phase": event.phase, "name": event.name, "toolCallId": event.call}
        data["args" if event.phase == "start" else "result"] = event.text
        payload = {"runId": event.run, "sessionKey": event.session, "seq": told.seq, "stream": "tool", "ts": now_ms()}
        return frames.Event("agent", {**payload, "data": data})


def message(role: str, text: str, at: int) -> dict[str, Any]:
    """Return a message in OpenClaw's shape."""
    return {"role": role, "content": [{"type": "text", "text": text}], "timestamp": at}
