"""The store as the rest of the service holds it: a file, its writer, its readers, and swapping them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw
from attrs import define, field

from pinch.errors import StoreDamaged
from pinch.memory import documents, snapshot
from pinch.memory.database import DatabaseConfig, Readers, Writer, hold_lock, open_store

log = logging.getLogger(__name__)
T = TypeVar("T")
Job = Callable[[apsw.Connection], T]

CLEAN = "clean_shutdown"


@define(eq=False)
class Store:
    """One open store. `write` returns when the effect is committed, `read` sees the last commit."""

    config: DatabaseConfig
    writer: Writer = field(init=False)
    readers: Readers = field(init=False)
    set_aside: Path | None = None
    """Where the corrupt file went that the start found."""
    _lock: int | None = None

    def open(self) -> None:
        """Take the folder and open the file.

        Raises:
            StoreUnusable: another service has it, or it cannot be used.
        """
        folder = self.config.path.parent
        self._lock = hold_lock(folder)
        try:
            for left in folder.glob("*.partial*"):  # what a kill interrupted
                left.unlink(missing_ok=True)
            self._open()
        except BaseException:
            os.close(self._lock)
            self._lock = None
            raise

    def _open(self) -> None:
        connection, opened = open_store(self.config)
        self.set_aside = opened.set_aside or self.set_aside
        self.writer = Writer(connection, self.config.path)
        self.readers = Readers(self.config, self.writer.condemn)
        self.writer.start()
        self.readers.start()

    async def recover(self) -> bool:
        """Tidy up after the last run; return whether it ended cleanly.

        After a kill or a power cut unfinished uploads are dropped, and the caller should `check`.
        """

        def begin(connection: apsw.Connection) -> tuple[bool, int]:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (CLEAN,)).fetchone()
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 0)", (CLEAN,))
            return row is None or bool(row[0]), documents.drop_unfinished(connection)

        clean, dropped = await self.writer.run(begin)
        if dropped:
            log.warning("dropped %d unfinished uploads of the last run", dropped)
        return clean

    async def check(self) -> bool:
        """Read the whole file for damage; report it and stop writes where there is any."""
        try:
            fault = await self.readers.run(lambda connection: str(connection.execute("PRAGMA quick_check(1)").get))
        except StoreDamaged:
            return False
        if fault != "ok":
            self.writer.condemn(fault)
        return fault == "ok"

    async def swap(self, incoming: Path) -> None:
        """Close, put `incoming` in the file's place, open again; the old file stays beside it."""
        await asyncio.get_running_loop().run_in_executor(None, self._swap, incoming)

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
        if not self.writer.damaged:
            await self.writer.run(
                lambda connection: connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (CLEAN,)).fetchall()
            )
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self.readers.stop()
        self.writer.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
