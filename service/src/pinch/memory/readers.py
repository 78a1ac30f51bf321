"""The threads that read the store, each with a connection of its own."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import apsw

from pinch.errors import StoreDamaged
from pinch.memory.database import DatabaseConfig, Job, closing, connect, translate

GRACE_S = 1.0
"""Seconds that reads have to end when the store closes."""
LOOK_STEPS = 100_000
"""Steps of SQLite's machine between two looks at whether a read should end; some 20 ms on the slowest board."""

T = TypeVar("T")


class Readers:
    """A small pool of reading connections, one a thread, and one more thread for what takes long."""

    def __init__(self, config: DatabaseConfig, condemn: Callable[[str], None]) -> None:
        self.config = config
        self.condemn = condemn
        """Called with the reason when a read meets corruption."""
        self.closing = False
        """Whether jobs are refused, because the store closes."""
        self._pool: ThreadPoolExecutor | None = None
        self._long: ThreadPoolExecutor | None = None
        self._deadline = math.inf
        """When, by the monotonic clock, reads that still run are cut."""
        self._local = threading.local()
        self._open: list[apsw.Connection] = []

    def start(self) -> None:
        """Make the pool; a connection opens when its thread first works."""
        self._pool = ThreadPoolExecutor(self.config.readers, thread_name_prefix="pinch-reader")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="pinch-long-reader")

    async def run(self, job: Job[T]) -> T:
        """Run `job` with a reading connection; all its statements see the store at one moment.

        Raises:
            StoreDamaged, Busy, StorageFull: as `translate` says.
        """
        return await self._submit(self._pool, self._call, job)

    async def run_long(self, job: Job[T]) -> T:
        """Run `job` on a thread and a connection of its own, outside any transaction: no other read waits for it.

        When the store closes it is cut at once.

        Raises:
            StoreDamaged, Busy, StorageFull: as `translate` says.
        """
        return await self._submit(self._long, self._call_alone, job)

    def refuse(self) -> None:
        """Take no more jobs; call it on the loop before `stop`, which may then run on another thread."""
        self.closing = True
        self._deadline = min(self._deadline, time.monotonic() + GRACE_S)

    def stop(self) -> None:
        """Wait for the running jobs, cut those that take long, and close the connections."""
        self.refuse()
        for pool in (self._pool, self._long):
            if pool is not None:
                pool.shutdown(wait=True)
        self._pool = self._long = None
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._local = threading.local()

    async def _submit(self, pool: ThreadPoolExecutor | None, call: Callable[[Job[T]], T], job: Job[T]) -> T:
        if self.closing or pool is None:
            raise closing()
        return await asyncio.get_running_loop().run_in_executor(pool, call, job)

    def _call(self, job: Job[T]) -> T:
        with self._explained():
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._connect(lambda: time.monotonic() > self._deadline)
                self._local.connection = connection
                self._open.append(connection)
            connection.execute("BEGIN")
            try:
                return job(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

    def _call_alone(self, job: Job[T]) -> T:
        with self._explained():
            connection = self._connect(lambda: self.closing)
            try:
                return job(connection)
            finally:
                connection.close()

    def _connect(self, ended: Callable[[], bool]) -> apsw.Connection:
        connection = connect(self.config)
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(ended, LOOK_STEPS)
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        if self.closing:  # it waited for its turn until now
            raise closing()
        try:
            yield
        except apsw.Error as error:
            explained = translate(error)
            if isinstance(explained, StoreDamaged):
                self.condemn(str(error))
            raise explained from error
