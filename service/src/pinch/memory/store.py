"""The store as the rest of the service holds it: a file, its writer, its readers, and swapping them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from pinch.errors import PinchError, StorageFull, StoreDamaged
from pinch.memory import documents, snapshot
from pinch.memory.database import DatabaseConfig, hold_lock, newest_set_aside, open_store
from pinch.memory.readers import Readers
from pinch.memory.writer import Writer

log = logging.getLogger(__name__)
T = TypeVar("T")
Job = Callable[[apsw.Connection], T]

CLEAN = "clean_shutdown"
RETRY_S = 10
"""Seconds before tidying up is tried again on a full disk."""


class Store:
    """One open store. `write` returns when the effect is committed, `read` sees the last commit."""

    def __init__(self, config: DatabaseConfig) -> None:
        self.config = config
        self.writer: Writer
        self.readers: Readers
        self.set_aside: Path | None = None
        """The corrupt file that was set aside last, until someone takes it away; as of the start."""
        self._lock: int | None = None
        self._retry: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing is read or written: it ends, is being swapped, or a swap could not open the new file."""
        return self.readers.closing

    def hold(self) -> None:
        """Take the folder; nothing in it is read or changed yet.

        Raises:
            StoreInUse: another service has it.
            StoreUnusable: it cannot be used.
        """
        self._lock = hold_lock(self.config.path.parent)

    def open(self) -> None:
        """Open the file, and take the folder unless it is held.

        Raises:
            StoreInUse: another service has it.
            StoreUnusable: it cannot be used.
        """
        if self._lock is None:
            self.hold()
        try:
            for left in self.config.path.parent.glob("*.partial*"):  # what a kill interrupted
                left.unlink(missing_ok=True)
            self._open()
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> None:
        connection, config = open_store(self.config)
        self.set_aside = newest_set_aside(config.path)
        self.writer = Writer(connection, self.config.path, self.config.ingest_bytes, documents.sweep)
        self.readers = Readers(config, self.writer.condemn)
        self.writer.start()
        self.readers.start()

    async def recover(self) -> bool:
        """Tidy up after the last run; return whether it ended cleanly.

        After a kill or a power cut unfinished uploads are dropped, and the caller should `check`.
        On a full disk that waits until there is room, and reading goes on.
        """
        clean, unfinished = await self.readers.run(lambda found: (_ended_cleanly(found), documents.unfinished(found)))

        def begin(connection: apsw.Connection) -> None:
            _mark(connection, clean=False)
            documents.drop_unfinished(connection, unfinished)

        if unfinished:
            log.warning("dropping %d unfinished uploads of the last run", len(unfinished))
        try:
            await self.writer.run(begin)
        except StorageFull as error:
            log.error("%s: tidying up waits until there is room", error.message)
            self._retry = asyncio.create_task(self._insist(begin), name="pinch-recover")
        return clean

    async def _insist(self, job: Job[None]) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                await self.writer.run(job)
            except PinchError:
                continue
            return

    async def _give_up(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)
            self._retry = None

    async def check(self) -> None:
        """Read the whole file for damage; report it and stop writes where there is any."""
        try:
            fault = await self.readers.run_long(_first_fault)
        except StoreDamaged:
            return  # the readers have condemned it
        except PinchError as error:
            log.warning("the check of the store did not end: %s", error.message)
            return
        if fault is not None:
            self.writer.condemn(fault)

    async def swap(self, incoming: Path) -> None:
        """Close, put `incoming` in the file's place, open again; the old file stays beside it."""
        await self._give_up()
        self._refuse()
        await asyncio.get_running_loop().run_in_executor(None, self._swap, incoming)

    def _refuse(self) -> None:
        self.readers.refuse()
        self.writer.refuse()

    def _swap(self, incoming: Path) -> None:
        self.readers.stop()
        self.writer.stop()
        try:
            kept = snapshot.take_place(incoming, self.config.path)
            log.info("loaded a snapshot; the store before it is %s", kept)
        finally:
            self._open()

    async def close(self) -> None:
        """Finish what was acknowledged and leave the file clean."""
        await self._give_up()
        try:
            await self.writer.run(lambda connection: _mark(connection, clean=True))
        except PinchError as error:
            log.warning("the end is not marked as clean: %s", error.message)
        self._refuse()
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self.readers.stop()
        self.writer.stop()
        self._let_go()


def _ended_cleanly(connection: apsw.Connection) -> bool:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (CLEAN,)).fetchone()
    return row is None or bool(row[0])


def _mark(connection: apsw.Connection, *, clean: bool) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (CLEAN, int(clean)))


def _first_fault(connection: apsw.Connection) -> str | None:
    fault = str(connection.execute("PRAGMA quick_check(1)").get)
    return None if fault == "ok" else fault
