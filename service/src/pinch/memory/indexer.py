"""The background work that gives every stored text its vector."""

from __future__ import annotations

import asyncio
import logging

import apsw

from pinch.errors import PinchError, StorageFull
from pinch.memory import vectors
from pinch.memory.embedding import Embedder
from pinch.memory.model import ModelUnusable, bits_of
from pinch.memory.store import Store
from pinch.memory.vectors import ModelRow, Pending, Vector

log = logging.getLogger(__name__)

BATCH = 32
"""Vectors that one write stores."""
RETRY_S = 5
"""Seconds before trying again after a full disk or a busy writer."""
MODEL_RETRY_S = 60
"""Seconds before trying again to load a model: its trial takes a processor for a while."""
UNUSED_KEPT = 4096
"""Vectors of texts that are stored no more and may come back; 1.8 MB at 384 dimensions."""


class Indexer:
    """Embeds what is pending, oldest first, and yields to queries between texts."""

    def __init__(self, store: Store, embedder: Embedder) -> None:
        self.store = store
        self.embedder = embedder
        self.model: ModelRow | None = None
        self.done = 0
        """Vectors stored since the start."""
        self.trouble = ""
        """Why the last attempt failed; empty again when one goes well."""
        self._vanished = False
        """Whether texts went since the cache of vectors was trimmed last."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register the model with the store and begin; on a full disk the model waits until there is room."""
        if self.embedder.manifest is None:
            return
        self.model = None
        try:
            await self._register()
        except StorageFull as error:
            log.warning("the model is not registered yet: %s", error.message)
        self._task = asyncio.create_task(self._work(), name="pinch-indexer")
        self._wake.set()

    async def stop(self) -> None:
        """Stop after the current text; what is pending stays pending."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def wake(self) -> None:
        """Say that there may be new texts."""
        self._wake.set()

    async def pending(self) -> int:
        """Return how many items wait for a vector; 0 where nothing embeds them."""
        return 0 if self.model is None else await self.store.readers.run(vectors.pending_count)

    async def _register(self) -> ModelRow:
        manifest = self.embedder.manifest
        assert manifest is not None
        self.model = await self.store.writer.run(
            lambda connection: vectors.register(connection, manifest.name, manifest.sha256, manifest.dimensions)
        )
        return self.model

    async def _work(self) -> None:
        while True:
            pause = RETRY_S
            await self._wake.wait()
            self._wake.clear()
            try:
                model = self.model or await self._register()
                while await self._turn(model):
                    pass
                await self._finish(model)
                self.trouble = ""
                continue
            except PinchError as error:
                if self.embedder.trouble:
                    return
                self.trouble = error.message
                pause = MODEL_RETRY_S if isinstance(error, ModelUnusable) else RETRY_S
                log.warning("indexing pauses: %s", error.message)
            except Exception as error:
                self.trouble = f"indexing failed: {error}"
                log.exception("indexing pauses")
            await asyncio.sleep(pause)
            self._wake.set()

    async def _turn(self, model: ModelRow) -> bool:
        while await self.store.writer.run(vectors.forget_vanished):
            self._vanished = True
        batch = await self.store.readers.run(lambda connection: vectors.next_pending(connection, BATCH))
        if not batch:
            return False
        ready = [(pending, await self._vector(model, pending)) for pending in batch]
        await self.store.writer.run(lambda connection: vectors.store(connection, model, ready))
        self.done += len(ready)
        return True

    async def _vector(self, model: ModelRow, pending: Pending) -> Vector:
        known = await self.store.readers.run(lambda connection: vectors.known(connection, model, pending.digest))
        if known is not None:
            return Vector(int8=known, bits=bits_of(known))
        return await self.embedder.document(pending.text)

    async def _finish(self, model: ModelRow) -> None:
        vanished, self._vanished = self._vanished, False

        def settle(connection: apsw.Connection) -> ModelRow:
            if vanished:  # reads every vector there is, so not after each memory
                vectors.forget_unused(connection, UNUSED_KEPT)
            complete = not model.active and not vectors.pending_count(connection)
            return vectors.promote(connection, model) if complete else model

        self.model = await self.store.writer.run(settle)
