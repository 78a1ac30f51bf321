"""The SQLite file: opening it, one writing thread, a few reading ones."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import apsw
from attrs import define, field, frozen

from pinch.errors import Busy, PinchError, StorageFull, StoreDamaged, StoreUnusable

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
APPLICATION_ID = 0x50696E63
"""`Pinc` in ASCII, in the file's header: tells our stores and snapshots from other SQLite files."""
QUEUE_LIMIT = 256
"""Writes that may wait; one more is refused with `Busy`."""
GROUP_LIMIT = 64
"""Writes that share one commit, and so one fsync."""
MMAP_BYTES = 32 * 1024 * 1024
"""Part of the file that is read through the page cache without a copy; clean pages, the kernel's to take."""

T = TypeVar("T")
Job = Callable[[apsw.Connection], T]


@frozen
class DatabaseConfig:
    """How the file is opened."""

    path: Path
    synchronous: str
    readers: int
    cache_kb: int
    """Page cache of each connection, KiB."""
    heap_bytes: int
    """Most that SQLite may allocate over all connections, bytes."""
    extension: Path | None = None
    """sqlite-vec's library, loaded by path; None where vectors are not used."""


@define
class Opened:
    """What opening the store found."""

    set_aside: Path | None = None
    """Where a corrupt file went, if there was one."""


def translate(error: apsw.Error) -> PinchError:
    """Turn an SQLite error into one that says what to do."""
    if isinstance(error, apsw.FullError):
        return StorageFull("the disk is full; nothing was stored", hint="free some space and try again")
    if isinstance(error, apsw.IOError):
        return StorageFull(
            f"the disk refused a write ({error}); nothing was stored", hint="check space and health of the disk"
        )
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreDamaged(
            f"the store is damaged: {error}", hint="restart the service: it sets the file aside; then load a snapshot"
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Busy("another program holds the store's lock", hint="end it: nothing but the service may open the store")
    if isinstance(error, apsw.NoMemError):
        return Busy("SQLite's account is used up", hint="ask for less at once, or raise the sqlite account")
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.CantOpenError):
        return StoreUnusable(
            f"the store cannot be written: {error}", hint="check the owner and mode of the state folder"
        )
    raise error


def hold_lock(state_dir: Path) -> int:
    """Take the state folder for this process; return the descriptor that holds it.

    Raises:
        StoreUnusable: another service has it, or it cannot be written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(
            f"state folder {state_dir} cannot be used: {error.strerror}",
            hint="create it and give it to the service's user, or set PINCH_STATE_DIR",
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreUnusable(
            f"state folder {state_dir} is in use by another service (process {owner})",
            hint="stop that one, or give this one its own PINCH_STATE_DIR",
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def connect(config: DatabaseConfig) -> apsw.Connection:
    """Open one connection with the store's settings."""
    connection = apsw.Connection(str(config.path), statementcachesize=64)
    connection.set_busy_timeout(5000)
    connection.execute(
        f"PRAGMA cache_size = -{config.cache_kb}; PRAGMA mmap_size = {MMAP_BYTES};"
        f"PRAGMA synchronous = {config.synchronous}; PRAGMA temp_store = FILE; PRAGMA cell_size_check = ON;"
        "PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 4194304"
    )
    if config.extension is not None:
        connection.enable_load_extension(True)
        connection.load_extension(str(config.extension))
        connection.enable_load_extension(False)
    return connection


def open_store(config: DatabaseConfig, clock: Callable[[], float] = time.time) -> tuple[apsw.Connection, Opened]:
    """Open or create the store; a corrupt file is set aside, never overwritten.

    Raises:
        StoreUnusable: the file is newer than this release, or cannot be opened.
    """
    apsw.soft_heap_limit(config.heap_bytes * 3 // 4)
    apsw.hard_heap_limit(config.heap_bytes)
    opened = Opened()
    try:
        return _open_checked(config), opened
    except (apsw.CorruptError, apsw.NotADBError) as error:
        opened.set_aside = _set_aside(config.path, clock())
        log.error("store %s is damaged (%s): set aside as %s", config.path, error, opened.set_aside)
        return _open_checked(config), opened
    except apsw.Error as error:
        raise translate(error) from error


def _open_checked(config: DatabaseConfig) -> apsw.Connection:
    marker = damage_marker(config.path)
    if marker.exists():
        raise apsw.CorruptError(f"marked as damaged: {marker.read_text('utf-8', 'replace').strip()}")
    connection = connect(config)
    try:
        connection.execute("PRAGMA page_size = 4096; PRAGMA journal_mode = WAL")
        found = connection.pragma("user_version")
        if found == 0 and not connection.pragma("schema_version"):
            create(connection)
        elif connection.pragma("application_id") != APPLICATION_ID:
            raise StoreUnusable(
                f"{config.path} is an SQLite file of another program",
                hint="move it away, or set PINCH_STATE_DIR to another folder",
            )
        elif found > SCHEMA_VERSION:
            raise StoreUnusable(
                f"{config.path} has schema {found}, and this release knows {SCHEMA_VERSION}",
                hint="start the newer release, or load a snapshot made by this one",
            )
        else:
            connection.execute(
                "SELECT count(*) FROM sqlite_schema; SELECT max(id) FROM items; SELECT max(id) FROM texts"
            ).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def create(connection: apsw.Connection) -> None:
    """Make an empty store of the present schema."""
    with connection:
        connection.execute(resources.files("pinch.memory").joinpath("schema.sql").read_text("utf-8"))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}")


def damage_marker(path: Path) -> Path:
    """Return the file that says SQLite found `path` corrupt while running."""
    return path.with_name(path.name + ".damaged")


def _set_aside(path: Path, now: float) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    attempt = 0
    while target.exists():
        attempt += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}-{attempt}")
    for suffix in ("-wal", "-shm", ".damaged"):
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(target.with_name(target.name + suffix))
    if path.exists():
        path.rename(target)
    return target


@define
class _Ticket:
    job: Job[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    cost: int
    result: Any = None
    error: BaseException | None = None


@define
class Writer:
    """The one thread that writes. Jobs that wait together share one commit; each is all or nothing."""

    connection: apsw.Connection
    path: Path
    waiting_bytes: int = 0
    damaged: str = ""
    _queue: queue.Queue[_Ticket | None] = field(factory=lambda: queue.Queue(QUEUE_LIMIT))
    _thread: threading.Thread | None = None

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
            Busy: too many writes wait.
            StorageFull: the disk is full; the job left nothing behind.
            StoreDamaged: SQLite reported corruption, now or earlier.
        """
        if self.damaged:
            raise StoreDamaged(
                f"the store is damaged: {self.damaged}", hint="restart the service: it sets the file aside"
            )
        if self._thread is None:
            raise Busy("the store is being replaced", hint="try again in a second")
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

    def stop(self) -> None:
        """Finish what waits, then end the thread and fold the log into the file."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self.connection.close()

    def condemn(self, reason: str) -> None:
        """Write no more: the file is corrupt, and the next start sets it aside."""
        if not self.damaged:
            self.damaged = " ".join(reason.split())
            mark_damaged(self.path, self.damaged)

    def _turn(self) -> None:
        while (ticket := self._queue.get()) is not None:
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


def mark_damaged(path: Path, reason: str) -> None:
    """Leave word for the next start that the file is corrupt."""
    log.error("store %s is damaged: %s", path, reason)
    try:
        damage_marker(path).write_text(reason + "\n", "utf-8")
    except OSError as error:
        log.error("cannot leave a marker beside %s: %s", path, error)


def _settle(ticket: _Ticket) -> None:
    if ticket.future.done():
        return
    if ticket.error is not None:
        ticket.future.set_exception(ticket.error)
        ticket.future.exception()
    else:
        ticket.future.set_result(ticket.result)


@define
class Readers:
    """A small pool of reading connections, one a thread."""

    config: DatabaseConfig
    condemn: Callable[[str], None]
    """Called with the reason when a read meets corruption."""
    _pool: ThreadPoolExecutor | None = None
    _local: threading.local = field(factory=threading.local)
    _open: list[apsw.Connection] = field(factory=list)

    def start(self) -> None:
        """Make the pool; a connection opens when its thread first works."""
        self._pool = ThreadPoolExecutor(self.config.readers, thread_name_prefix="pinch-reader")

    async def run(self, job: Job[T]) -> T:
        """Run `job` with a reading connection.

        Raises:
            StoreDamaged, Busy, StorageFull: as `translate` says.
        """
        if self._pool is None:
            raise Busy("the store is being replaced", hint="try again in a second")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, job)

    def stop(self) -> None:
        """Wait for the running jobs and close the connections."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._local = threading.local()

    def _call(self, job: Job[T]) -> T:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = connect(self.config)
                connection.execute("PRAGMA query_only = ON")
                self._local.connection = connection
                self._open.append(connection)
            return job(connection)
        except apsw.Error as error:
            explained = translate(error)
            if isinstance(explained, StoreDamaged):
                self.condemn(str(error))
            raise explained from error
