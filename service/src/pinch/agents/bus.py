"""The bus: bounded, typed, in order for each session; full, it pushes back on whoever fills it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Generic, Protocol, TypeVar

from pinch.agents.events import Event, Prompt
from pinch.errors import Busy

log = logging.getLogger(__name__)


class Message(Protocol):
    """What a topic carries."""

    @property
    def lane(self) -> str:
        """Messages of one lane are handled one after the other, in order."""

    @property
    def cost(self) -> int:
        """Bytes that it takes while it waits."""


M = TypeVar("M", bound=Message)
Handler = Callable[[M], Awaitable[None]]


class Topic(Generic[M]):
    """Messages of one type on their way to their handlers."""

    def __init__(
        self, name: str, limit: int, at_once: int, join: Callable[[M, M], M | None] = lambda _first, _second: None
    ) -> None:
        self.name = name
        self.limit = limit
        """Bytes that may wait; a message that is alone always may."""
        self.join = join
        """Makes one of two neighbours that both wait, or returns None."""
        self.used = 0
        self._handlers: list[Handler[M]] = []
        self._turns = asyncio.Semaphore(at_once)
        self._lanes: dict[str, deque[M]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        """Costs of those who wait for room, first come, first served."""
        self._stopped = False

    def subscribe(self, handler: Handler[M]) -> None:
        """Call `handler` with each message; of several, one after the other."""
        self._handlers.append(handler)

    def waiting(self) -> int:
        """Return how many messages wait."""
        return sum(map(len, self._lanes.values()))

    @contextmanager
    def room(self, cost: int) -> Iterator[None]:
        """Keep room for a message while its sender makes sure of it; `put_in` follows, or the room is free again.

        Raises:
            Busy: the topic is full.
        """
        if not self._fits(cost):
            raise Busy(f"{self.waiting()} {self.name} are waiting, as many as may", hint="try again in a second")
        self.used += cost
        try:
            yield
        finally:
            self._free(cost)

    def put_in(self, message: M) -> None:
        """Add a message for which there is room."""
        if self._stopped:
            return
        lane = self._lanes.get(message.lane)
        if lane is None:
            lane = self._lanes[message.lane] = deque()
            task = asyncio.create_task(self._drain(message.lane, lane), name=f"pinch-{self.name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif lane and (joined := self.join(lane[-1], message)) is not None:
            self.used += joined.cost - lane[-1].cost
            lane[-1] = joined
            return
        lane.append(message)
        self.used += message.cost

    async def put(self, message: M) -> None:
        """Add a message; while the topic is full, wait."""
        if not self._waiters and self._fits(message.cost):
            self.put_in(message)
            return
        turn = asyncio.get_running_loop().create_future()
        waiter = (message.cost, turn)
        self._waiters.append(waiter)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._free(message.cost)  # room was kept for it already
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
                self._wake()  # it may have stood in the way of a smaller one
            raise
        try:
            self.put_in(message)
        finally:
            self._free(message.cost)

    def withdraw(self, lane: str, wanted: Callable[[M], bool]) -> list[M]:
        """Take the messages of a lane that still wait and are `wanted` off the bus."""
        waiting = self._lanes.get(lane, deque())
        taken = [message for message in waiting if wanted(message)]
        for message in taken:
            waiting.remove(message)
            self._free(message.cost)
        return taken

    async def stop(self) -> None:
        """Stop handling; what waits is dropped, and what comes later."""
        self._stopped = True
        lanes = list(self._lanes.values())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lanes.clear()  # a task that was cancelled before it began has left its lane
        for message in chain.from_iterable(lanes):
            self._free(message.cost)

    def _fits(self, cost: int) -> bool:
        return not self.used or self.used + cost <= self.limit

    def _free(self, cost: int) -> None:
        self.used -= cost
        self._wake()

    def _wake(self) -> None:
        """Let those go on for whom there is room by now, and keep it for them until they do."""
        while self._waiters and self._fits(self._waiters[0][0]):
            cost, turn = self._waiters.popleft()
            if not turn.done():
                self.used += cost
                turn.set_result(None)

    async def _drain(self, name: str, lane: deque[M]) -> None:
        try:
            while lane:
                async with self._turns:
                    if not lane:  # withdrawn meanwhile
                        return
                    message = lane.popleft()
                    self._free(message.cost)
                    for handler in self._handlers:
                        try:
                            await handler(message)
                        except Exception:
                            log.exception("%s: a handler failed", self.name)
        finally:
            del self._lanes[name]


class Bus:
    """The two ways: prompts in, events out."""

    def __init__(self, limit: int, runs: int) -> None:
        self.prompts: Topic[Prompt] = Topic("prompts", limit // 2, runs)
        self.events: Topic[Event] = Topic("events", limit // 2, runs, lambda first, second: first.joined(second))

    @property
    def used(self) -> int:
        """Bytes that wait."""
        return self.prompts.used + self.events.used

    async def stop(self) -> None:
        """Stop both ways, the one that fills the other first."""
        await self.prompts.stop()
        await self.events.stop()
