"""Sessions in a snapshot: each file a row of a table that stands beside the store's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import apsw

from pinch.agents.session import KEY
from pinch.agents.sessions import SUFFIX
from pinch.durable import to_disk
from pinch.errors import Invalid, StorageFull
from pinch.memory.database import translate

TABLE = "sessions"
SCHEMA = "CREATE TABLE sessions (key TEXT PRIMARY KEY, journal BLOB NOT NULL)"
GUESTS = {TABLE: SCHEMA}
"""Tables that a snapshot may have beside the store's."""


def pack(folder: Path, snapshot: Path) -> None:
    """Add every session of `folder` to a snapshot that has none yet.

    Raises:
        StorageFull: there is no room.
    """
    connection = apsw.Connection(str(snapshot))
    try:
        with connection:
            connection.execute(SCHEMA)
            for file in sorted(folder.glob(f"*{SUFFIX}")):
                if KEY.fullmatch(file.stem) is not None and file.is_file():
                    connection.execute("INSERT INTO sessions VALUES (?, ?)", (file.stem, file.read_bytes()))
    except apsw.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise StorageFull(f"the sessions cannot be added to the snapshot: {error.strerror}") from None
    finally:
        connection.close()


def unpack(snapshot: Path, folder: Path) -> int | None:
    """Write the sessions of a snapshot into a new `folder`, on disk, and take them out of it; return how many.

    Returns None for a snapshot that was made without sessions: `folder` is not made then.

    Raises:
        Invalid: one has a name that no session has.
        StorageFull: there is no room; nothing is left of it.
    """
    connection = apsw.Connection(str(snapshot))
    try:
        if not connection.table_exists(None, TABLE):
            return None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        count = 0
        for key, content in connection.execute("SELECT key, journal FROM sessions"):
            if not isinstance(key, str) or KEY.fullmatch(key) is None or not isinstance(content, bytes):
                raise Invalid(f"the snapshot has a session {str(key)[:40]!r} that is none", param="body")
            with (folder / f"{key}{SUFFIX}").open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            count += 1
        to_disk(folder)
        connection.execute("DROP TABLE sessions")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, apsw.Error):
            raise translate(error) from error
        if isinstance(error, OSError):
            raise StorageFull(f"the sessions cannot be written: {error.strerror}", hint="free some space") from None
        raise
    finally:
        connection.close()
    return count
