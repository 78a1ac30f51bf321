"""All connected clients: how many, how idle, how slow; and what is sent to all of them."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pinch.budget import allocator
from pinch.clock import now_ms
from pinch.gateway.keeper import TokenKeeper
from pinch.gateway.websocket.client import Client
from pinch.gateway.websocket.frames import Event
from pinch.gateway.websocket.socket import NORMAL, POLICY_VIOLATION
from pinch.settings import GatewaySettings

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two looks at who is idle, stuck or no longer allowed."""
MESSAGE_S = 30.0
"""Seconds that one message may take to come."""
BUFFERS_AT_ONCE = 4
"""Full send buffers that there may be: where all clients leave as much untaken, the slowest goes."""
HTTP_SHARE = 8
"""One in so many connections is kept free of WebSockets, so that health and metrics always answer."""
SERVICE_RESTART = 1012
PRESENCE_LIMIT = 50
CROWD = 8
"""Clients after whose leaving memory is given back, once no more leave."""
EVENTS = ("connect.challenge", "tick", "chat", "agent", "shutdown")


class Pool:
    """The clients that have shown a token."""

    def __init__(self, gateway: GatewaySettings, tokens: TokenKeeper, *, connections: int, buffer_bytes: int) -> None:
        self.gateway = gateway
        self.tokens = tokens
        self.limit = max(1, connections - max(1, connections // HTTP_SHARE))
        """Clients there may be."""
        self.buffer_bytes = buffer_bytes
        """Bytes that one client may leave untaken."""
        self.events = EVENTS
        self.clients: set[Client] = set()
        self._starting: set[Client] = set()
        self._task: asyncio.Task[None] | None = None
        self._ticked = 0.0
        self._began = time.monotonic()
        self._stopping = False
        self._left = asyncio.Event()
        self._gone = 0
        """Clients that have left since memory was given back."""

    @property
    def used(self) -> int:
        """Bytes that were sent and not taken."""
        return sum(client.socket.untaken for client in (*self.clients, *self._starting))

    def start(self) -> None:
        """Begin to look after the clients."""
        self._task = asyncio.create_task(self._look(), name="pinch-pool")

    async def stop(self, within_s: float) -> None:
        """Say that the service stops, and close every connection within `within_s` seconds."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
        await self.broadcast(Event("shutdown", {"reason": "the service stops"}))
        for client in (*self.clients, *self._starting):
            client.end(SERVICE_RESTART, "the service stops")
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.clients or self._starting:
                    self._left.clear()
                    await self._left.wait()

    def begin(self, client: Client) -> None:
        """Hear of a connection that has not shown a token yet."""
        self._starting.add(client)
        if self._stopping:
            client.end(SERVICE_RESTART, "the service stops")

    def enter(self, client: Client) -> bool:
        """Let a client in that has shown one, unless the pool is full."""
        if len(self.clients) >= self.limit or self._stopping:
            return False
        self._starting.discard(client)
        self.clients.add(client)
        return True

    def leave(self, client: Client) -> None:
        """Hear that a client is gone."""
        self.clients.discard(client)
        self._starting.discard(client)
        self._left.set()
        self._gone += 1

    async def broadcast(self, event: Event) -> None:
        """Send an event to every client; it is made into bytes once."""
        for client in list(self.clients):
            await client.push(event)

    async def broadcast_by_protocol(self, events: Mapping[int, Event]) -> None:
        """Send each client the event of its protocol."""
        for client in list(self.clients):
            await client.push(events[client.protocol])

    def speaks(self, protocol: int) -> bool:
        """Return whether any client speaks `protocol`."""
        return any(client.protocol == protocol for client in self.clients)

    def relieve(self) -> None:
        """Close the slowest clients while all together leave more untaken than they may."""
        while self.used > BUFFERS_AT_ONCE * self.buffer_bytes:
            slowest = max(self.clients, key=lambda client: client.socket.untaken, default=None)
            if slowest is None or not slowest.socket.untaken:
                return
            log.warning("clients leave too much untaken: the slowest is closed")
            slowest.socket.drop()
            self.leave(slowest)

    def presence(self) -> list[Mapping[str, Any]]:
        """Return who is connected, the newest first and no more than fit an answer."""
        return [
            {
                "connId": client.id,
                "instanceId": client.about.instance or client.id,
                "host": client.about.name or client.about.id,
                "mode": client.about.mode,
                "platform": client.about.platform,
                "version": client.about.version,
                "reason": "connect",
                "text": f"{client.about.id} on {client.about.platform}",
                "ts": client.connected_at,
            }
            for client in heapq.nlargest(PRESENCE_LIMIT, self.clients, key=lambda client: client.connected_at)
        ]

    def snapshot(self) -> Mapping[str, Any]:
        """Return what a client is told when it connects."""
        return {
            "presence": self.presence(),
            "health": {"ok": True},
            "stateVersion": {"presence": 0, "health": 0},
            "uptimeMs": self.uptime_ms,
            "sessionDefaults": {
                "defaultAgentId": "main",
                "mainKey": "main",
                "mainSessionKey": "main",
                "scope": "global",
            },
        }

    @property
    def uptime_ms(self) -> int:
        """Milliseconds since the pool was made."""
        return int((time.monotonic() - self._began) * 1000)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._ticked = loop.time()
        gone = 0
        while True:
            await asyncio.sleep(LOOK_S)
            moment = loop.time()
            if self._gone == gone >= CROWD:
                self._gone = 0
                allocator.give_back()
            gone = self._gone
            try:
                for client in list(self.clients):
                    self._judge(client, moment)
                if moment - self._ticked >= self.gateway.tick_s:
                    self._ticked = moment
                    await self.broadcast(Event("tick", {"ts": now_ms()}))
            except Exception:
                log.exception("looking after the clients failed")

    def _judge(self, client: Client, moment: float) -> None:
        since = client.socket.unfinished_since()
        if since is not None and moment - since > MESSAGE_S:
            client.end(POLICY_VIOLATION, f"a message was not complete within {MESSAGE_S:.0f} s")
        elif moment - client.active_at > self.gateway.idle_timeout_s and not client.runs:
            client.end(NORMAL, "idle")
        elif self.tokens.holder(client.token, datetime.now(UTC)) is None:
            client.end(POLICY_VIOLATION, "the token has ended")
