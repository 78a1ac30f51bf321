"""Snapshots: the whole store as one portable SQLite file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from pinch.durable import to_disk
from pinch.errors import Invalid, StorageFull
from pinch.memory.database import APPLICATION_ID, SCHEMA_VERSION, create, damage_marker, translate

_VECTORS = re.compile(r'CREATE VIRTUAL TABLE "?vectors_\d+"? USING vec0\b', re.ASCII)


class Contents(NamedTuple):
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


def inspect(path: Path, guests: Mapping[str, str] = {}) -> Contents:
    """Check a snapshot from end to end and count what it holds; nothing is changed.

    Args:
        path: the file.
        guests: SQL of the tables that it may have beside the store's own, by name.

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
            _check_parts(connection, guests)
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
    except apsw.CorruptError as error:
        raise Invalid(f"the snapshot is damaged: {error}", param="body", hint=hint) from None
    except (apsw.NotADBError, apsw.CantOpenError, apsw.SQLError) as error:
        raise Invalid(f"the file is no Pinch snapshot: {error}", param="body", hint=hint) from None
    except apsw.Error as error:
        raise translate(error) from error


def _check_parts(connection: apsw.Connection, guests: Mapping[str, str]) -> None:
    """Refuse a file that lacks a part of a store, or has one made otherwise or one too many, such as a trigger."""
    plain = apsw.Connection(":memory:")
    create(plain)
    expected, found = _parts(plain), _parts(connection)
    plain.close()
    for kind, name in sorted(expected.keys() | found.keys()):
        if expected.get((kind, name)) == found.get((kind, name)):
            continue
        if kind == "table" and name in guests and guests[name] == found.get((kind, name)):
            continue
        has = "lacks" if (kind, name) not in found else "has another" if (kind, name) in expected else "has"
        raise Invalid(
            f"the file is no Pinch snapshot: it {has} {kind} {name[:40]}",
            param="body",
            hint="make a snapshot with `pinch snapshot save`",
        )


def _parts(connection: apsw.Connection) -> dict[tuple[str, str], str]:
    """Return the SQL of all that a schema has by kind and name, apart from the vectors of models."""
    rows: Any = connection.execute(
        "SELECT type, name, ifnull(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'"
    )
    parts = {(kind, name): " ".join(sql.split()) for kind, name, sql in rows}
    vectors = {name for (kind, name), sql in parts.items() if kind == "table" and _VECTORS.match(sql)}
    return {
        (kind, name): sql
        for (kind, name), sql in parts.items()
        if kind != "table" or not (name in vectors or _shadows(name, sql, vectors))
    }


def _shadows(name: str, sql: str, vectors: Set[str]) -> bool:
    """Whether a table is one that sqlite-vec keeps a table of vectors in."""
    return sql.startswith("CREATE TABLE ") and any(name.startswith(f"{table}_") for table in vectors)


def take_place(incoming: Path, store: Path) -> Path:
    """Put `incoming` in the place of the closed `store`; return where the old one is kept.

    A power cut leaves one or the other, never none: the old file gets a second name before the new
    one takes its first.

    Raises:
        StorageFull: what was written last could not be folded into `store`; nothing was changed.
    """
    log = store.with_name(store.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise StorageFull("the store's log cannot be folded into it; nothing was changed", hint="free some space")
    kept = store.with_name(store.name + ".replaced")
    kept.unlink(missing_ok=True)
    to_disk(incoming)
    if store.exists():
        os.link(store, kept)
    incoming.replace(store)
    # It tells of the file that was replaced; left behind, the next start would set the good one aside.
    damage_marker(store).unlink(missing_ok=True)
    to_disk(store.parent)
    return kept
