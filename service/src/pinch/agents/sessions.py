"""All sessions: which there are, which are in memory, and one at a time at each file."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from cachetools import TTLCache

from pinch.agents import journal
from pinch.agents.journal import Changed, Contents, Entry, Head
from pinch.agents.session import KEY, SUMMARY_TYPES, Session, Summary, check_key, split
from pinch.clock import now_ms
from pinch.durable import to_disk
from pinch.errors import Conflict, NotFound

log = logging.getLogger(__name__)
T = TypeVar("T")

CACHE_TTL_S = 45.0
"""Seconds that a session stays in memory after its last use, as OpenClaw has it."""
SUMMARY_BYTES = 700
"""What the index holds for each session, roughly."""
INDEX_FILE = "index.json"
SUFFIX = ".jsonl"
OVERGROWN = 2
"""Times its limit at which a session takes no more: it could not be compacted."""
ATTEMPTS = 3
"""How often it is tried to write to a session that someone else changes."""
IN_USE = 4
"""Sessions that are worked on at once; more wait."""

Archive = Callable[[str, Sequence[Entry]], Awaitable[None]]
"""Takes what compaction drops from a session, so that it is not lost."""


class _Turn:
    """Whose turn it is at one session."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Sessions:
    """The folder of sessions. Blocking work runs on the loop's file threads."""

    def __init__(self, folder: Path, *, file_limit: int, count_limit: int, cache_bytes: int, archive: Archive) -> None:
        self.folder = folder
        self.file_limit = file_limit
        """Bytes of a file past which it is compacted."""
        self.count_limit = count_limit
        self.archive = archive
        self._cache: TTLCache[str, Session] = TTLCache(cache_bytes, CACHE_TTL_S, getsizeof=lambda one: one.memory_bytes)
        self._summaries: dict[str, Summary] = {}
        self._turns: dict[str, _Turn] = {}
        self._places = asyncio.Semaphore(IN_USE)
        self._working: dict[str, Session] = {}
        self._making = 0
        """Sessions whose file is being made: they count already."""
        self._dirty = False
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def used(self) -> int:
        """Bytes that sessions take in memory."""
        working = sum(session.memory_bytes for session in self._working.values())
        return int(self._cache.currsize) + working + len(self._summaries) * SUMMARY_BYTES

    def __len__(self) -> int:
        return len(self._summaries)

    def trim(self) -> int:
        """Drop the sessions nobody works on; return their bytes."""
        held = int(self._cache.currsize)
        self._cache.clear()
        return held

    async def start(self) -> None:
        """Learn which sessions there are: from the index, and from each file that changed after it.

        Raises:
            Conflict: the folder cannot be used.
        """
        try:
            self._summaries = await self._file(self._scan)
        except OSError as error:
            raise Conflict(
                f"{self.folder} cannot be used: {error.strerror}", hint="look at its owner and mode"
            ) from None
        for summary in self._summaries.values():
            if summary.damage:
                log.warning("session %s: %s", summary.key, summary.damage)

    async def stop(self) -> None:
        """Write the index."""
        if self._expiry is not None:
            self._expiry.cancel()
        if self._dirty:
            with suppress(OSError):  # it is only a shortcut for the next start
                await self._file(self._save_index)

    def listing(self, search: str = "") -> list[Summary]:
        """Return the sessions whose key or title holds `search`, newest first."""
        wanted = search.casefold()
        found = [
            one for one in self._summaries.values() if wanted in one.key.casefold() or wanted in one.title.casefold()
        ]
        return sorted(found, key=lambda one: one.updated_at, reverse=True)

    @asynccontextmanager
    async def hold(self, key: str, *, create: bool = False) -> AsyncIterator[Session]:
        """Have a session to oneself for a moment.

        Raises:
            Invalid: it is no key.
            NotFound: there is no such session, and it is not to be made.
            Conflict: there are as many as there may be.
            StorageFull: it cannot be made.
        """
        check_key(key)
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        try:
            async with turn.lock, self._places:
                session = self._cache.pop(key, None)
                if session is None or not session.current:
                    session = await self._load(key, create=create)
                self._working[key] = session
                known = True
                try:
                    yield session
                except asyncio.CancelledError:
                    known = False  # its file may have what it has not
                    raise
                finally:
                    del self._working[key]
                    if known and key in self._summaries:
                        self._keep(key, session)
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def append(self, session: Session, *entries: Entry) -> None:
        """Add entries to a session that is held; when this returns they are on disk.

        Raises:
            StorageFull: there is no room; nothing was added.
            Conflict: the session has outgrown its limit and could not be compacted, or cannot be written.
        """
        key, overgrown = session.head.key, OVERGROWN * self.file_limit
        if session.weight > overgrown and entries[0].kind == "user":
            await self._shorten(session)
            if session.weight > overgrown:
                raise Conflict(
                    f"session {key} has {session.file_bytes} bytes and could not be compacted",
                    param="sessionKey",
                    hint="reset it, or look at the log for the reason",
                )
        for _ in range(ATTEMPTS):
            try:
                await self._add(session, entries)
                return
            except Changed:
                log.warning("session %s was changed by someone else: reading it again", key)
                session.take(await self._read(key, create=True))
                self._note(session)
        raise Conflict(f"session {key} is being changed by someone else", param="sessionKey", hint="try again")

    async def reset(self, key: str) -> Summary:
        """Begin a session anew; what was said in it is gone.

        Raises:
            NotFound: there is none.
            StorageFull: there is no room; it stays as it was.
        """
        async with self.hold(key) as session:
            head = Head(key, str(uuid.uuid4()), now_ms())
            stamp = await self._file(journal.rewrite, session.path, head, [])
            session.take(Contents(head, [], stamp.bytes, stamp))
            return self._note(session)

    async def delete(self, key: str) -> None:
        """Remove a session.

        Raises:
            NotFound: there is none.
        """
        async with self.hold(key) as session:
            await self._file(_remove, session.path)
            self._summaries.pop(key, None)
            self._dirty = True

    async def replace(self, incoming: Path) -> None:
        """Put the folder `incoming` in the place of all sessions; the ones before stay beside it until the next time.

        Nobody may hold a session.
        """
        await self._file(self._replace_folder, incoming)
        self._cache.clear()
        self._summaries = await self._file(self._scan)
        self._dirty = True

    def _replace_folder(self, incoming: Path) -> None:
        kept = self.folder.with_name(f"{self.folder.name}.replaced")
        shutil.rmtree(kept, ignore_errors=True)
        self.folder.rename(kept)
        incoming.rename(self.folder)
        to_disk(self.folder.parent)

    async def compact(self, key: str) -> None:
        """Shorten a session that has passed its limit: whole runs go, oldest first, to the archive.

        Raises:
            PinchError: they cannot be archived or the file not be written; it stays as it was.
        """
        if key not in self._summaries:
            return
        async with self.hold(key) as session:
            if session.weight > self.file_limit:
                await self._shorten(session)

    def unfinished(self) -> list[str]:
        """Return the keys of sessions with a run that has not ended."""
        return [one.key for one in self._summaries.values() if one.open]

    async def _shorten(self, session: Session) -> None:
        key = session.head.key
        dropped, kept = split(session.entries, self.file_limit)
        await self.archive(key, dropped)
        if not session.current:
            raise Conflict(f"session {key} was changed by someone else while it was compacted", hint="try again")
        if session.unread or session.skipped_bytes:
            aside = await self._file(journal.set_aside, session.path, session.unread, session.skipped_bytes)
            log.warning("session %s: what could not be read is in %s", key, aside)
        stamp = await self._file(journal.rewrite, session.path, session.head, kept)
        session.take(Contents(session.head, kept, stamp.bytes, stamp))
        self._note(session)
        log.info("session %s compacted to %d bytes, %d entries archived", key, stamp.bytes, len(dropped))

    async def _add(self, session: Session, entries: Sequence[Entry]) -> None:
        stamp = await self._file(journal.append, session.path, session.whole_bytes, session.stamp, entries)
        session.add(entries)
        session.stamp = stamp
        session.whole_bytes = stamp.bytes
        self._note(session)

    def _note(self, session: Session) -> Summary:
        summary = session.summary()
        self._summaries[session.head.key] = summary
        self._dirty = True
        return summary

    async def _load(self, key: str, *, create: bool) -> Session:
        contents = await self._read(key, create=create)
        session = Session(self._path(key), contents)
        if session.damage:
            log.warning("session %s: %s", key, session.damage)
        self._note(session)
        return session

    async def _read(self, key: str, *, create: bool) -> Contents:
        path = self._path(key)
        try:
            return await self._file(journal.load, path, key, self.file_limit)
        except FileNotFoundError:
            self._summaries.pop(key, None)
        except OSError as error:
            raise Conflict(f"session {key} cannot be read: {error.strerror}", param="sessionKey") from None
        if not create:
            raise NotFound(f"there is no session {key!r}", param="sessionKey", hint="sessions.list shows what there is")
        if len(self._summaries) + self._making >= self.count_limit:
            raise Conflict(
                f"there are {len(self._summaries)} sessions, as many as there may be",
                param="sessionKey",
                hint="delete some, by `/delete` in `pinch chat` or on the page, or raise [agents] max_sessions",
            )
        head = Head(key, str(uuid.uuid4()), now_ms())
        self._making += 1
        try:
            stamp = await self._file(journal.create, path, head)
        finally:
            self._making -= 1
        return Contents(head, [], stamp.bytes, stamp)

    def _keep(self, key: str, session: Session) -> None:
        with suppress(ValueError):  # larger than the whole cache
            self._cache[key] = session
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(CACHE_TTL_S + 1, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self._cache.expire()
        if self._cache:
            self._expiry = asyncio.get_running_loop().call_later(CACHE_TTL_S, self._expire)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    async def _file(self, work: Callable[..., T], *args: Any) -> T:
        job = asyncio.get_running_loop().run_in_executor(None, work, *args)
        cancelled: asyncio.CancelledError | None = None
        # Nobody else may have the file before its thread is done, however often this is cancelled.
        while not job.done():
            try:
                await asyncio.wait({job})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            job.exception()  # nobody is left to hear of it
            raise cancelled
        return job.result()

    def _scan(self) -> dict[str, Summary]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self._load_index()
        found = {}
        for file in os.scandir(self.folder):
            key, suffix = os.path.splitext(file.name)  # noqa: PTH122 - an entry of a scan is no Path
            if suffix == ".partial":  # what a kill interrupted
                os.unlink(file.path)  # noqa: PTH108
            if suffix != SUFFIX or KEY.fullmatch(key) is None:
                continue
            try:
                status = file.stat()
                size, changed, summary = known.get(key, (0, 0, None))
                if summary is None or (size, changed) != (status.st_size, status.st_mtime_ns):
                    summary = Session(Path(file.path), journal.load(Path(file.path), key, self.file_limit)).summary()
                    self._dirty = True
            except OSError as error:  # one file of somebody else's must not keep the others from being used
                summary = Summary(key, "", 0, "", 0, 0, open=False, damage=f"it cannot be read: {error.strerror}")
            found[key] = summary
        return found

    def _load_index(self) -> dict[str, tuple[int, int, Summary]]:
        try:
            raw = json.loads((self.folder / INDEX_FILE).read_bytes())
            known = {row["key"]: (size, changed, Summary(**row)) for size, changed, row in raw}
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return {}
        return {key: one for key, one in known.items() if tuple(map(type, one[2])) == SUMMARY_TYPES}

    def _save_index(self) -> None:
        partial = self.folder / "index.partial"
        rows = json.dumps(list(self._indexed()))
        partial.write_text(rows, "utf-8")
        partial.rename(self.folder / INDEX_FILE)

    def _indexed(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        for summary in list(self._summaries.values()):
            with suppress(FileNotFoundError):
                status = self._path(summary.key).stat()
                if status.st_size == summary.file_bytes:
                    yield status.st_size, status.st_mtime_ns, summary._asdict()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".unread").unlink(missing_ok=True)
    to_disk(path.parent)
