"""The one thread that writes to the store."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import apsw

from pinch.errors import Busy, StoreDamaged
from pinch.memory.database import Job, closing, mark_damaged, translate

log = logging.getLogger(__name__)

QUEUE_LIMIT = 256
"""Writes that may wait; one more is refused with `Busy`."""
GROUP_LIMIT = 64
"""Writes that share one commit, and so one fsync."""

T = TypeVar("T")
Chore = Callable[[apsw.Connection], bool]
"""A piece of work that can wait; returns whether there is more of it."""


class _Ticket:
    def __init__(self, job: Job[Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], cost: int) -> None:
        self.job = job
        self.loop = loop
        self.future = future
        self.cost = cost
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """The one thread that writes. Jobs that wait together share one commit; each is all or nothing."""

    def __init__(self, connection: apsw.Connection, path: Path, limit_bytes: int, chore: Chore) -> None:
        self.connection = connection
        self.path = path
        self.limit_bytes = limit_bytes
        """Most that may wait, bytes."""
        self.chore = chore
        """What the thread does piece by piece, each in a commit of its own, while no job waits."""
        self.waiting_bytes = 0
        self.damaged = ""
        self.closing = False
        """Whether jobs are refused, because the store closes."""
        self._delayed = False
        """Whether the chore failed, and its next failure need not be told."""
        self._queue: queue.Queue[_Ticket | None] = queue.Queue(QUEUE_LIMIT)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._turn, name="pinch-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Job[T], cost: int = 0) -> T:
        """Run `job` inside a transaction; when this returns, its effect is committed.

        Args:
            job: called with the writing connection, on the writing thread.
            cost: bytes that wait with it, for the ledger.

        Raises:
            Busy: too many writes wait, or too long ones, or the store closes.
            StorageFull: the disk is full; the job left nothing behind.
            StoreDamaged: SQLite reported corruption, now or earlier.
        """
        if self.damaged:
            raise StoreDamaged(
                f"the store is damaged: {self.damaged}", hint="restart the service: it sets the file aside"
            )
        if self.closing or self._thread is None:
            raise closing()
        if cost and self.waiting_bytes and self.waiting_bytes + cost > self.limit_bytes:
            raise Busy(
                f"writes of {self.waiting_bytes} bytes are waiting, and the account holds {self.limit_bytes}",
                hint="try again in a second",
            )
        loop = asyncio.get_running_loop()
        ticket = _Ticket(job, loop, loop.create_future(), cost)
        try:
            self._queue.put_nowait(ticket)
        except queue.Full:
            raise Busy(f"{QUEUE_LIMIT} writes are waiting", hint="try again in a second") from None
        self.waiting_bytes += cost
        try:
            result: T = await asyncio.shield(ticket.future)
            return result
        finally:
            self.waiting_bytes -= cost

    def refuse(self) -> None:
        """Take no more jobs; call it on the loop before `stop`, which may then run on another thread."""
        self.closing = True

    def stop(self) -> None:
        """Finish what waits, then end the thread and fold the log into the file."""
        self.refuse()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._dismiss()
        self.connection.close()

    def _dismiss(self) -> None:
        """Answer whoever came after the end."""
        while True:
            try:
                ticket = self._queue.get_nowait()
            except queue.Empty:
                return
            if ticket is not None:
                ticket.error = closing()
                ticket.loop.call_soon_threadsafe(_settle, ticket)

    def condemn(self, reason: str) -> None:
        """Write no more: the file is corrupt, and the next start sets it aside."""
        if not self.damaged:
            self.damaged = " ".join(reason.split())
            mark_damaged(self.path, self.damaged)

    def _turn(self) -> None:
        while (ticket := self._next()) is not None:
            group = [ticket]
            last = False
            while len(group) < GROUP_LIMIT:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                    break
                group.append(following)
            self._commit(group)
            if last:
                break

    def _next(self) -> _Ticket | None:
        while self._queue.empty() and self._do_chore():
            pass
        return self._queue.get()

    def _do_chore(self) -> bool:
        """Do a piece of the chore; return whether to go on. After a failure the next write brings it back."""
        if self.damaged:
            return False
        try:
            with self.connection:
                more = self.chore(self.connection)
        except Exception as error:  # noqa: BLE001 - whatever failed, the thread goes on
            reason = self._explain(error)
            if not self._delayed:
                log.warning("tidying up is delayed: %s", reason)
            self._delayed = True
            return False
        self._delayed = False
        return more

    def _commit(self, group: list[_Ticket]) -> None:
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for ticket in group:
                self._attempt(ticket)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever failed, every waiting caller must hear of it
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for ticket in group:
                ticket.error = error
        for ticket in group:
            if ticket.error is not None:
                ticket.error = self._explain(ticket.error)
            ticket.loop.call_soon_threadsafe(_settle, ticket)

    def _attempt(self, ticket: _Ticket) -> None:
        connection = self.connection
        connection.execute("SAVEPOINT job")
        try:
            ticket.result = ticket.job(connection)
        except Exception as error:
            # A full disk rolls the whole transaction back by itself: then every job of the group failed.
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO job")
            ticket.error = error
        connection.execute("RELEASE job")

    def _explain(self, error: BaseException) -> BaseException:
        if not isinstance(error, apsw.Error):
            return error
        try:
            explained = translate(error)
        except apsw.Error as unknown:
            return unknown
        if isinstance(explained, StoreDamaged):
            self.condemn(str(error))
        return explained


def _settle(ticket: _Ticket) -> None:
    if ticket.future.done():
        return
    if ticket.error is not None:
        ticket.future.set_exception(ticket.error)
        ticket.future.exception()
    else:
        ticket.future.set_result(ticket.result)
