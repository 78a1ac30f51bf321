"""Those who wait for one run: each takes what there is when it looks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from pinch.agents.events import Delta, Event, Finished
from pinch.errors import Busy


class Follower:
    """One who waits for one run. What it has not taken yet is one piece, never longer than the answer."""

    def __init__(self) -> None:
        self._delta: Delta | None = None
        self._end: Finished | None = None
        self._news = asyncio.Event()

    async def next(self) -> Delta | Finished:
        """Return what has been said since the last time, and at last the end."""
        await self._news.wait()
        if self._delta is not None:
            delta, self._delta = self._delta, None
            if self._end is None:
                self._news.clear()
            return delta
        assert self._end is not None
        return self._end

    def tell(self, event: Event) -> None:
        """Hear of an event of the run."""
        if isinstance(event, Delta):
            joined = None if self._delta is None else self._delta.joined(event)
            self._delta = joined or event
        elif isinstance(event, Finished):
            self._end = event
        else:
            return
        self._news.set()


class Followers:
    """Everyone who waits for a run."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[Follower]] = {}

    @contextmanager
    def follow(self, lane: str, run: str) -> Iterator[Follower]:
        """Hear what a run says from now on."""
        follower = Follower()
        followers = self._waiting.setdefault((lane, run), [])
        followers.append(follower)
        try:
            yield follower
        finally:
            followers.remove(follower)
            if not followers:
                self._waiting.pop((lane, run), None)

    def stop(self) -> None:
        """Tell everyone that nothing more comes: the service stops."""
        error = Busy("the service stops", hint="try again in a moment")
        for (lane, run), followers in self._waiting.items():
            for follower in followers:
                follower.tell(Finished(lane, run, "error", "", 0, error=error))

    async def handle(self, event: Event) -> None:
        """Pass on an event; the bus calls it."""
        for follower in self._waiting.get((event.lane, event.run), ()):
            follower.tell(event)
