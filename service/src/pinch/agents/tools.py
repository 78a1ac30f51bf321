"""Tools that the model may call: its memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pinch.errors import Invalid, PinchError
from pinch.memory.access import Memories
from pinch.memory.memories import NewMemory
from pinch.memory.search import Hit, Recall, RecallRequest

RESULT_BYTES = 8 * 1024
"""Bytes of UTF-8 that a result may have: it is part of every later request of the run."""
TEXT_BYTES = 64 * 1024
QUERY_BYTES = 8 * 1024
HITS = 6
HITS_LIMIT = 20
TAGS_LIMIT = 32
TAG_BYTES = 200
SOURCE = "agent"


def _declared(name: str, description: str, needed: str, **parameters: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters, "required": [needed], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


DECLARATIONS = (
    _declared(
        "memory_search",
        "Search everything remembered and every document. Returns the best hits with their ids.",
        "query",
        query={"type": "string", "description": "What to look for, in plain words."},
        k={"type": "integer", "minimum": 1, "maximum": HITS_LIMIT, "description": f"Most hits, {HITS} by default."},
    ),
    _declared(
        "memory_get",
        "Read one memory in full.",
        "id",
        id={"type": "string", "description": "Its id, such as m12."},
    ),
    _declared(
        "memory_remember",
        "Remember a fact for all later conversations.",
        "text",
        text={"type": "string", "description": "The fact, in a sentence that is clear by itself."},
        tags={"type": "array", "items": {"type": "string"}, "description": "Words to find it by."},
    ),
)


class Tools:
    """The tools of one agent."""

    def __init__(self, recall: Recall, memories: Memories, space: str) -> None:
        self.recall = recall
        self.memories = memories
        self.space = space
        """Where the agent's own memories go."""
        self._tools = {
            "memory_search": self._search,
            "memory_get": self._get,
            "memory_remember": self._remember,
        }

    async def call(self, name: str, arguments: str) -> str:
        """Run a tool and return what the model is told, faults too: it can correct itself."""
        tool = self._tools.get(name)
        if tool is None:
            return f"error: there is no tool {name[:40]!r}; there are {', '.join(self._tools)}"
        try:
            given = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return "error: the arguments are not JSON"
        if not isinstance(given, dict):
            return "error: the arguments are no JSON object"
        try:
            return clipped(await tool(given), RESULT_BYTES)
        except PinchError as error:
            return f"error: {error.message}{f'; {error.hint}' if error.hint else ''}"

    async def _search(self, given: Mapping[str, Any]) -> str:
        query = _text(given, "query", QUERY_BYTES)
        k = given.get("k", HITS)
        if type(k) is not int or not 1 <= k <= HITS_LIMIT:
            raise Invalid(f"k is {str(k)[:20]}; expected 1 to {HITS_LIMIT}")
        found = await self.recall.recall(RecallRequest(query, k=k))
        if not found.hits:
            return "nothing found"
        share = RESULT_BYTES // len(found.hits)
        return "\n\n".join(clipped(told(hit), share - 2) for hit in found.hits)

    async def _get(self, given: Mapping[str, Any]) -> str:
        memory = await self.memories.get(_text(given, "id", 40))
        return f"[{memory.id}] {memory.at} {' '.join(memory.tags)}\n{memory.text}"

    async def _remember(self, given: Mapping[str, Any]) -> str:
        tags = given.get("tags", [])
        if not isinstance(tags, list) or len(tags) > TAGS_LIMIT:
            raise Invalid(f"tags is no list of at most {TAGS_LIMIT} words")
        named = tuple(dict.fromkeys(_text({"tags": tag}, "tags", TAG_BYTES) for tag in tags))
        if not all(tag.isprintable() for tag in named):
            raise Invalid("tags hold control characters")
        memory = NewMemory(_text(given, "text", TEXT_BYTES), self.space, named, SOURCE)
        (stored,) = await self.memories.remember([memory])
        return f"remembered as {stored.id}" if stored.created else f"was remembered already, as {stored.id}"


def told(hit: Hit) -> str:
    """Return a hit as the model reads it: what it is, where it is from, what it says."""
    place = f"{hit.path}:{hit.lines[0]}" if hit.path and hit.lines else hit.source or ""
    return f"[{hit.id}] {' '.join(part for part in (hit.at[:10], place) if part)}\n{hit.text}"


def clipped(text: str, limit: int) -> str:
    """Return the beginning of a text that has at most `limit` bytes of UTF-8, and a sign where it was cut."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[: max(0, limit - 4)].decode("utf-8", "ignore") + " …"


def _text(given: Mapping[str, Any], name: str, limit: int) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"{name} is no text")
    if "\0" in value or len(value.encode("utf-8", "replace")) > limit:
        raise Invalid(f"{name} has more than {limit} bytes or a NUL")
    return value.encode("utf-8", "replace").decode()
