"""One completion as it comes: its text, the tools it wants called, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pinch.agents.errors import ProviderError, no_answer, told, too_long
from pinch.agents.sse import EventTooLong

CALLS_LIMIT = 16
STOP_CHARACTERS = 40
COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens")


class Call(NamedTuple):
    """A tool that the model wants called; `arguments` is JSON, or should be."""

    id: str
    name: str
    arguments: str


class Said(NamedTuple):
    """The next piece of the answer's text."""

    text: str


class Ended(NamedTuple):
    """The end of an answer."""

    stop: str
    calls: tuple[Call, ...]
    usage: Mapping[str, int]


class Completion:
    """What has come of one answer."""

    def __init__(self, limit: int, key: str) -> None:
        self.limit = limit
        self.key = key
        """Is never told again."""
        self.begun = False
        self.size = 0
        self.stop = ""
        self.done = False
        self.usage: Mapping[str, int] = {}
        self._calls: list[list[str]] = []
        """Id, name and arguments of each, as far as they have come."""
        self._places: dict[int, int] = {}
        """Which of them the provider's index means now."""

    def feed(self, events: Iterable[bytes]) -> tuple[str, ProviderError | None]:
        """Read events; return their text, and what is wrong with the one that follows it."""
        text = ""
        try:
            for data in events:
                if data.strip() == b"[DONE]":
                    self.done = True
                    break
                text += "".join(piece.text for piece in self.take(data, "delta"))
        except EventTooLong:
            return text, too_long(self.limit)
        except ProviderError as error:
            return text, error
        return text, None

    def take(self, data: bytes, part: str) -> list[Said]:
        """Read one event, whose text and calls are in `delta`, or a whole answer, whose are in `message`.

        Raises:
            ProviderError: it says that something went wrong, is no event, or too much.
        """
        try:
            event = json.loads(data)
            if event.get("error"):
                raise told(event["error"], None, self.key)
            if isinstance(event.get("usage"), dict):
                self.usage = {name: n for name in COUNTED if type(n := event["usage"].get(name)) is int}
            said = []
            for choice in (event.get("choices") or [])[:1]:
                self.begun = True
                found = choice.get(part) or {}
                if text := found.get("content") or found.get("refusal"):
                    said.append(Said(self._counted(text)))
                for place, call in enumerate(found.get("tool_calls") or []):
                    index = call.get("index")
                    self._collect(index if type(index) is int else place, call)
                if isinstance(stop := choice.get("finish_reason"), str) and stop:
                    self.stop = stop[:STOP_CHARACTERS]
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise no_answer(data, self.key) from None
        if part == "message" and not self.begun:
            raise no_answer(data, self.key)
        return said

    def end(self) -> Ended:
        """Return the end.

        Raises:
            ProviderError: there was no answer before it.
        """
        if not self.begun:
            raise no_answer(b"", self.key)
        calls: dict[str, Call] = {}
        for place, (given, name, arguments) in enumerate(self._calls):
            if name:  # a result belongs to its call by id alone, so each has one of its own
                own = given if given and given not in calls else f"call_{place}_{given}"
                calls[own] = Call(own, name, arguments)
        return Ended(self.stop or "stop", tuple(calls.values()), self.usage)

    def _collect(self, index: int, call: Mapping[str, Any]) -> None:
        """Add a piece of a call to the one it belongs to.

        Args:
            index: what the provider says of it. Some give every call the same, and tell them apart by id.
            call: the piece.
        """
        place, name = self._places.get(index), call.get("id") or ""
        if place is None or (name and self._calls[place][0] not in {"", name}):
            if len(self._calls) == CALLS_LIMIT:
                raise ProviderError(f"the provider wants more than {CALLS_LIMIT} tools at once")
            place = self._places[index] = len(self._calls)
            self._calls.append(["", "", ""])
        parts, function = self._calls[place], call.get("function") or {}
        parts[0] = self._counted(name) or parts[0]
        parts[1] += self._counted(function.get("name") or "")
        parts[2] += self._counted(function.get("arguments") or "")

    def _counted(self, text: str) -> str:
        """Return a text as it can be stored: half a character has no UTF-8, and becomes a question mark."""
        data = text.encode("utf-8", "replace")
        self.size += len(data)
        if self.size > self.limit:
            raise too_long(self.limit)
        return data.decode()
