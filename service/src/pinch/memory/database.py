"""The SQLite file: taking its folder, opening it, setting a damaged one aside."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw

from pinch.errors import Busy, PinchError, StorageFull, StoreDamaged, StoreInUse, StoreUnusable

log = logging.getLogger(__name__)

SCHEMA = Path(__file__).with_name("schema.sql")
SCHEMA_VERSION = 1
APPLICATION_ID = 0x50696E63
"""`Pinc` in ASCII, in the file's header: tells our stores and snapshots from other SQLite files."""

T = TypeVar("T")
Job = Callable[[apsw.Connection], T]


class DatabaseConfig(NamedTuple):
    """How the file is opened."""

    path: Path
    synchronous: str
    readers: int
    cache_kb: int
    """Page cache of each connection, KiB."""
    heap_bytes: int
    """Most that SQLite may allocate over all connections, bytes."""
    ingest_bytes: int
    """Most that texts may hold that wait to be written, bytes."""
    extension: Path | None = None
    """sqlite-vec's library, loaded by path; None where vectors are not used."""
    alone: bool = False
    """Whether the index of the log lives in memory, and not in a file: other programs cannot read along then."""


_SIDES = ("-wal", "-shm", ".damaged")
"""Ends of the names of what stands beside a store: SQLite's log and its index, and word of damage."""


def translate(error: apsw.Error) -> PinchError:
    """Turn an SQLite error into one that says what to do."""
    for kinds, explain in _EXPLAINED:
        if isinstance(error, kinds):
            return explain(error)
    raise error


def closing() -> Busy:
    """Return what those hear who come while the store is swapped or closed."""
    return Busy("the store is being replaced or closed", hint="try again in a second")


_EXPLAINED: tuple[tuple[tuple[type[apsw.Error], ...], Callable[[apsw.Error], PinchError]], ...] = (
    (
        (apsw.FullError,),
        lambda _: StorageFull("the disk is full; nothing was stored", hint="free some space and try again"),
    ),
    (
        (apsw.IOError,),
        lambda error: StorageFull(
            f"the disk refused a write ({error}); nothing was stored", hint="check space and health of the disk"
        ),
    ),
    (
        (apsw.CorruptError, apsw.NotADBError),
        lambda error: StoreDamaged(
            f"the store is damaged: {error}", hint="restart the service: it sets the file aside; then load a snapshot"
        ),
    ),
    (
        (apsw.BusyError, apsw.LockedError),
        lambda _: Busy(
            "another program holds the store's lock", hint="end it: nothing but the service may open the store"
        ),
    ),
    ((apsw.InterruptError,), lambda _: closing()),
    (
        (apsw.NoMemError,),
        lambda _: Busy("SQLite's account is used up", hint="ask for less at once, or raise the sqlite account"),
    ),
    (
        (apsw.ReadOnlyError, apsw.PermissionsError, apsw.CantOpenError),
        lambda error: StoreUnusable(
            f"the store cannot be written: {error}", hint="check the owner and mode of the state folder"
        ),
    ),
)


def hold_lock(state_dir: Path) -> int:
    """Take the state folder for this process; return the descriptor that holds it.

    Raises:
        StoreInUse: another service has it.
        StoreUnusable: it cannot be written.
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
        raise StoreInUse(
            f"state folder {state_dir} is in use by another service (process {owner})",
            hint="stop that one, or give this one its own PINCH_STATE_DIR",
        ) from None
    with suppress(OSError):  # on a full disk the lock holds all the same, only nameless
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def connect(config: DatabaseConfig) -> apsw.Connection:
    """Open one connection with the store's settings."""
    connection = apsw.Connection(str(config.path), vfs="unix-excl" if config.alone else None, statementcachesize=64)
    connection.set_busy_timeout(5000)
    connection.execute(
        # Read, not mapped: around a missing page of a mapping the kernel reads 31 others, which push out the model's.
        f"PRAGMA cache_size = -{config.cache_kb}; PRAGMA mmap_size = 0;"
        f"PRAGMA synchronous = {config.synchronous}; PRAGMA temp_store = FILE; PRAGMA cell_size_check = ON;"
        "PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 4194304"
    ).fetchall()  # a statement that gives a row, such as mmap_size, holds up those after it until the row is taken
    if config.extension is not None:
        connection.enable_load_extension(True)
        connection.load_extension(str(config.extension))
        connection.enable_load_extension(False)
    return connection


def open_store(
    config: DatabaseConfig, clock: Callable[[], float] = time.time
) -> tuple[apsw.Connection, DatabaseConfig]:
    """Open or create the store; a corrupt file is set aside, never overwritten.

    Raises:
        StoreUnusable: the file is newer than this release, or cannot be opened.
    """
    apsw.soft_heap_limit(config.heap_bytes * 3 // 4)
    apsw.hard_heap_limit(config.heap_bytes)
    try:
        try:
            return _open_somehow(config)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            set_aside = _set_aside(config.path, clock())
            log.error("store %s is damaged (%s): set aside as %s", config.path, error, set_aside)
            return _open_somehow(config)
    except apsw.Error as error:
        raise translate(error) from error


def _open_somehow(config: DatabaseConfig) -> tuple[apsw.Connection, DatabaseConfig]:
    with suppress(apsw.IOError):
        return _open_checked(config), config
    log.warning("the disk has no room for the index of the store's log: it is kept in memory")
    alone = config._replace(alone=True)
    return _open_checked(alone), alone


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
        connection.execute(SCHEMA.read_text("utf-8"))
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
    for suffix in _SIDES:
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(target.with_name(target.name + suffix))
    if path.exists():
        path.rename(target)
    return target


def newest_set_aside(path: Path) -> Path | None:
    """Return the corrupt file that was set aside last and is still there; names carry the time."""
    found = (each for each in path.parent.glob(f"{path.name}.corrupt-*") if not each.name.endswith(_SIDES))
    return max(found, default=None)


def mark_damaged(path: Path, reason: str) -> None:
    """Leave word for the next start that the file is corrupt."""
    log.error("store %s is damaged: %s", path, reason)
    try:
        damage_marker(path).write_text(reason + "\n", "utf-8")
    except OSError as error:
        log.error("cannot leave a marker beside %s: %s", path, error)
