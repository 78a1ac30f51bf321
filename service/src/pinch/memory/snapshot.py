"""Snapshots: the whole store as one portable SQLite file."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
from attrs import define

from pinch.errors import Invalid
from pinch.memory.database import APPLICATION_ID, SCHEMA_VERSION, translate


@define
class Contents:
    """What a snapshot holds."""

    memories: int
    documents: int
    chunks: int
    vectors: int
    schema: int


def save(connection: apsw.Connection, target: Path) -> None:
    """Write a consistent copy of the store to `target`, compacted; writers go on meanwhile.

    Raises:
        apsw.Error: the disk is full; `target` is removed.
    """
    target.unlink(missing_ok=True)
    connection.execute("PRAGMA query_only = OFF")
    try:
        connection.execute("VACUUM INTO ?", (str(target),))
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        connection.execute("PRAGMA query_only = ON")


def inspect(path: Path) -> Contents:
    """Check a snapshot from end to end and count what it holds; nothing is changed.

    Raises:
        Invalid: it is no snapshot of ours, newer than this release, or damaged.
    """
    hint = "make a snapshot with `pinch snapshot save` and send it whole"
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            if connection.pragma("application_id") != APPLICATION_ID:
                raise Invalid("the file is an SQLite database, but no Pinch snapshot", param="body", hint=hint)
            schema = connection.pragma("user_version")
            if not 0 < schema <= SCHEMA_VERSION:
                raise Invalid(
                    f"the snapshot has schema {schema}, and this release knows {SCHEMA_VERSION}",
                    param="body",
                    hint="install the release that made it, or a newer one",
                )
            fault = connection.execute("PRAGMA quick_check(1)").get
            if fault != "ok":
                raise Invalid(f"the snapshot is damaged: {fault}", param="body", hint=hint)

            def count(table: str) -> int:
                return int(connection.execute(f"SELECT count(*) FROM {table}").get)

            return Contents(
                memories=count("items WHERE kind = 0"),
                documents=count("documents WHERE live"),
                chunks=count("items WHERE kind = 1 AND space > 0"),
                vectors=count("items JOIN embeddings USING (digest) WHERE space > 0"),
                schema=schema,
            )
        finally:
            connection.close()
    except (apsw.NotADBError, apsw.CorruptError, apsw.CantOpenError, apsw.SQLError) as error:
        raise Invalid(f"the file is no Pinch snapshot: {error}", param="body", hint=hint) from None
    except apsw.Error as error:
        raise translate(error) from error


def take_place(incoming: Path, store: Path) -> Path:
    """Put `incoming` in the place of the closed `store`; return where the old one is kept.

    A power cut leaves one or the other, never none: the old file gets a second name before the new
    one takes its first.
    """
    kept = store.with_name(store.name + ".replaced")
    kept.unlink(missing_ok=True)
    _to_disk(incoming)
    if store.exists():
        os.link(store, kept)
    incoming.replace(store)
    _to_disk(store.parent)
    return kept


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
