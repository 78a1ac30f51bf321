"""What travels on the bus: prompts on their way to a session, and what its runs say."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from pinch.errors import PinchError

OVERHEAD = 512
"""Bytes that a message takes beside its text."""


class Prompt(NamedTuple):
    """A message that waits to be answered; it is in the session's file already."""

    lane: str
    """Its session, or its run where there is no session: of one lane one thing happens after the other."""
    run: str
    text: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    """Of a run without a session: the whole conversation, as the provider takes it."""
    options: Mapping[str, Any] = {}
    """Further parameters for the provider."""
    instructions: str = ""
    """What the model is told for this answer alone."""
    session: str | None = None

    @property
    def cost(self) -> int:
        """Bytes that it takes while it waits."""
        told = sys.getsizeof(self.text) + sys.getsizeof(self.instructions) + sys.getsizeof(str(self.options))
        return OVERHEAD + told + sum(sys.getsizeof(str(one)) for one in self.messages)


class Delta(NamedTuple):
    """The next piece of an answer."""

    lane: str
    run: str
    text: str
    session: str | None = None

    @property
    def cost(self) -> int:
        """Bytes that it takes while it waits."""
        return OVERHEAD + sys.getsizeof(self.text)

    def joined(self, later: Event) -> Delta | None:
        """Return this and what follows as one, or None where they do not belong together."""
        if isinstance(later, Delta) and later.run == self.run:
            return self._replace(text=self.text + later.text)
        return None


class ToolUse(NamedTuple):
    """A tool that the agent calls, or what it gave."""

    lane: str
    run: str
    phase: str
    """`start` or `result`."""
    name: str
    call: str
    text: str
    """The arguments, or the result."""
    session: str | None = None

    @property
    def cost(self) -> int:
        """Bytes that it takes while it waits."""
        return OVERHEAD + sys.getsizeof(self.text)

    def joined(self, _: Event) -> None:
        """Stay alone."""


class Finished(NamedTuple):
    """The end of a run."""

    lane: str
    run: str
    state: str
    """`final`, `aborted` or `error`."""
    text: str
    """The whole answer, or what there was of it."""
    at: int
    stop: str = ""
    """Why the provider stopped: `stop`, `length`, …"""
    usage: Mapping[str, int] = {}
    error: PinchError | None = None
    session: str | None = None

    @property
    def cost(self) -> int:
        """Bytes that it takes while it waits."""
        return OVERHEAD + sys.getsizeof(self.text)

    def joined(self, _: Event) -> None:
        """Stay alone."""


Event = Delta | ToolUse | Finished
