"""Embedding as a service to the others: one thread, loaded on first need, unloaded when idle."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cachetools import LRUCache

from pinch.budget.allocator import give_back, trim
from pinch.budget.sampling import sample
from pinch.errors import PinchError
from pinch.memory.model import Manifest, ModelUnusable, Session, load_session, quantize, read_manifest
from pinch.memory.probe import probe
from pinch.memory.vectors import Vector

if TYPE_CHECKING:
    from pinch.memory.model import Floats

log = logging.getLogger(__name__)
T = TypeVar("T")

CACHED_QUERY_LIMIT = 1024
"""Characters of the longest query whose vector is worth keeping."""
ENTRY_OVERHEAD = 400
"""Bytes that one cache entry costs beside its strings: two objects, a key and their places in a dict."""


class Embedder:
    """The embedding model, or the reason why there is none.

    Args:
        folder: the model's folder; None on a tier without a model.
        threads: threads of one inference.
        idle_unload_s: seconds without use after which the model leaves memory; 0 keeps it.
        cache_bytes: limit of the cache of query vectors.
        record: file that remembers that the model was probed.
    """

    def __init__(self, folder: Path | None, threads: int, idle_unload_s: int, cache_bytes: int, record: Path) -> None:
        self.folder = folder
        self.threads = threads
        self.idle_unload_s = idle_unload_s
        self.cache_bytes = cache_bytes
        self.record = record
        self.manifest: Manifest | None = None
        self.trouble = ""
        """Why semantic recall is not to be had; empty where it is."""
        self.model_bytes = 0
        """Anonymous memory that loading the model took."""
        self._session: Session | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._cache: LRUCache[str, Vector] = LRUCache(cache_bytes, _entry_bytes)
        self._idle: asyncio.TimerHandle | None = None
        self._loading = asyncio.Lock()
        self._stopping = threading.Event()

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._session is not None

    @property
    def available(self) -> bool:
        """Whether texts can be embedded, now or after loading."""
        return self.manifest is not None and not self.trouble

    @property
    def cache_used(self) -> int:
        """Bytes that cached query vectors take."""
        return int(self._cache.currsize)

    def start(self) -> None:
        """Look at the model's folder; a bad one is reported and recall goes on by keyword."""
        if self.folder is None:
            return
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pinch-model")
        try:
            self.manifest = read_manifest(self.folder)
        except ModelUnusable as error:
            self.trouble = f"{error.message}; {error.hint}"
            log.error("no semantic recall: %s", self.trouble)

    def stop(self) -> None:
        """End the running inference at its next window, and free the model."""
        self._stopping.set()
        if self._idle is not None:
            self._idle.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._session = None

    async def query(self, text: str) -> Vector:
        """Return the stored form of a query's vector; the cache answers what was asked before."""
        cached = self._cache.get(text)
        if cached is not None:
            return cached
        vector = await self._use(
            lambda session: quantize(self._embed(session, session.manifest.prefix_query + text)[0])
        )
        if len(text) <= CACHED_QUERY_LIMIT and self.cache_bytes > 2 * ENTRY_OVERHEAD + len(vector.int8):
            self._cache[text] = vector
        return vector

    async def document(self, text: str) -> Vector:
        """Return the stored form of a text's vector."""
        return await self._use(
            lambda session: _tidy(quantize(self._embed(session, session.manifest.prefix_document + text)[0]))
        )

    async def floats(self, text: str) -> tuple[Floats, int]:
        """Return the float vector of a text, shape `[dimensions]`, and its number of tokens."""
        return await self._use(lambda session: _tidy(self._embed(session, text)))

    async def unload(self) -> int:
        """Free the model; return the bytes of anonymous memory that came back."""
        if self._session is None:
            return 0
        before = sample().anonymous_bytes
        self._session = None
        await self._run(give_back)
        after = sample().anonymous_bytes
        self.model_bytes = max(0, self.model_bytes - (before - after))
        log.info("model unloaded: %.1f MB back", (before - after) / 2**20)
        return before - after

    def trim_cache(self) -> int:
        """Drop the cached query vectors; return their bytes."""
        held = self.cache_used
        self._cache.clear()
        return held

    def _embed(self, session: Session, text: str) -> tuple[Floats, int]:
        return session.embed(text, self._stopping.is_set)

    async def _run(self, work: Callable[[], T]) -> T:
        assert self._pool is not None
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _use(self, work: Callable[[Session], T]) -> T:
        """Run `work` with the model, and let it go some time after the last use has ended."""
        try:
            session = await self._ready()
            return await self._run(lambda: work(session))
        finally:
            self._expect_idleness()

    async def _ready(self) -> Session:
        async with self._loading:
            if self._session is not None:
                return self._session
            if self.manifest is None or self.trouble:
                raise ModelUnusable(self.trouble or "this tier has no embedding model", hint="use keyword mode")
            manifest = self.manifest
            try:
                await probe(manifest, self.record)
                before = sample().anonymous_bytes
                session = await self._run(lambda: load_session(manifest, self.threads))
                await self._run(lambda: session.embed("warm"))
            except OSError as error:  # no memory or no process to be had just now: the next use tries again
                log.warning("the model cannot be loaded now: %s", error)
                raise ModelUnusable(
                    f"the model cannot be loaded now: {error}", hint="use keyword mode, or try again in a minute"
                ) from None
            except (ModelUnusable, ImportError) as error:
                self.trouble = error.message if isinstance(error, PinchError) else str(error)
                log.error("no semantic recall: %s", self.trouble)
                raise ModelUnusable(self.trouble, hint="use keyword mode, or repair the model and restart") from None
            self.model_bytes += max(0, sample().anonymous_bytes - before)
            self._session = session
            log.info("model %s loaded: %.1f MB anonymous", manifest.name, self.model_bytes / 2**20)
            return session

    def _expect_idleness(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self.idle_unload_s:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self.idle_unload_s, lambda: loop.create_task(self.unload()))


def _entry_bytes(vector: Vector) -> int:
    return ENTRY_OVERHEAD + len(vector.int8) + len(vector.bits)


def _tidy(result: T) -> T:
    """Hand back the scratch memory that a long text took, in the thread that took it."""
    trim()
    return result
