"""Where compaction puts what it drops from a session: into the memory, to be recalled."""

from __future__ import annotations

from collections.abc import Sequence

from pinch.agents.journal import Entry
from pinch.agents.sessions import Archive
from pinch.memory.access import Memories
from pinch.memory.memories import NewMemory

SPACE = "sessions"
"""Space of the memories that were sessions."""
BATCH = 64
"""Memories that are stored in one commit."""


def archive_into(memories: Memories) -> Archive:
    """Return what stores the texts that were said, each once: the same text again is the same memory."""

    async def archive(key: str, entries: Sequence[Entry]) -> None:
        said = [entry for entry in entries if entry.kind in {"user", "assistant"} and entry.text.strip()]
        for begin in range(0, len(said), BATCH):
            await memories.remember([_memory(key, entry) for entry in said[begin : begin + BATCH]])

    return archive


def _memory(key: str, entry: Entry) -> NewMemory:
    # Providers send half a surrogate pair now and then, and people edit files.
    text = entry.text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return NewMemory(text, SPACE, (f"session:{key}",), entry.kind, key, entry.at)
