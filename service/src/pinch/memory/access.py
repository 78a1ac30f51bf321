"""Memories as those above the store keep them: written, read, changed, forgotten; their vectors follow."""

from __future__ import annotations

from collections.abc import Sequence

from pinch.clock import now_ms
from pinch.memory import memories
from pinch.memory.indexer import Indexer
from pinch.memory.memories import Change, Memory, NewMemory, Remembered
from pinch.memory.store import Store

ITEM_OVERHEAD = 512
"""Bytes that a waiting memory is booked with beside its text."""


class Memories:
    """The memories of one store."""

    def __init__(self, store: Store, indexer: Indexer) -> None:
        self.store = store
        self.indexer = indexer

    async def remember(self, wanted: Sequence[NewMemory]) -> list[Remembered]:
        """Store memories, all or none; when this returns they are on disk.

        Raises:
            Busy, StorageFull, StoreDamaged: nothing was stored.
        """
        moment = now_ms()
        cost = sum(_cost(memory.text) for memory in wanted)
        stored = await self.store.writer.run(lambda connection: memories.remember(connection, wanted, moment), cost)
        self.indexer.wake()
        return stored

    async def get(self, public: str) -> Memory:
        """Return one memory.

        Raises:
            NotFound: there is none of that id.
        """
        return await self.store.readers.run(lambda connection: memories.get(connection, public))

    async def change(self, public: str, wanted: Change) -> Memory:
        """Change fields of one memory.

        Raises:
            NotFound, Conflict, Busy, StorageFull, StoreDamaged: nothing was changed.
        """
        memory = await self.store.writer.run(
            lambda connection: memories.change(connection, public, wanted), _cost(wanted.text)
        )
        self.indexer.wake()
        return memory

    async def forget(self, public: str) -> None:
        """Delete one memory.

        Raises:
            NotFound, Busy, StorageFull, StoreDamaged: nothing was changed.
        """
        await self.store.writer.run(lambda connection: memories.forget(connection, public))
        self.indexer.wake()


def _cost(text: str) -> int:
    return len(text.encode()) + ITEM_OVERHEAD
