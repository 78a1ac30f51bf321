"""Rows that memories and documents share: items with their texts, tags, spaces and threads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import apsw

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MEMORY, CHUNK = 0, 1
HIDDEN_SPACE = 0
"""Space of the chunks of a document that is still arriving; no recall looks there."""


def digest_of(text: str) -> bytes:
    """Return the 16-byte BLAKE2b digest that stands for a text's content."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def rfc3339(milliseconds: int) -> str:
    """Format milliseconds since 1970 as RFC 3339 in UTC."""
    moment = EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def space_id(connection: apsw.Connection, name: str, *, create: bool = False) -> int | None:
    """Return the id of a space, making it where asked to; None where there is none."""
    row = connection.execute("SELECT id FROM spaces WHERE name = ?", (name,)).fetchone()
    if row is not None:
        return int(row[0])
    if not create:
        return None
    connection.execute("INSERT INTO spaces (name) VALUES (?)", (name,))
    return connection.last_insert_rowid()


def thread_id(connection: apsw.Connection, space: int, name: str) -> int:
    """Return the id of a thread of `space`, making it where it is new."""
    row = connection.execute("SELECT id FROM threads WHERE space = ? AND name = ?", (space, name)).fetchone()
    if row is not None:
        return int(row[0])
    connection.execute("INSERT INTO threads (space, name) VALUES (?, ?)", (space, name))
    return connection.last_insert_rowid()


def next_seq(connection: apsw.Connection, thread: int) -> int:
    """Return the place after the last turn of a thread."""
    last = connection.execute("SELECT max(seq) FROM items WHERE thread = ?", (thread,)).fetchone()
    return 0 if last is None or last[0] is None else int(last[0]) + 1


def add_text(connection: apsw.Connection, item: int, text: str) -> None:
    """Store and index the text of a new item, and leave it for the model to embed."""
    connection.execute("INSERT INTO texts (id, text) VALUES (?, ?)", (item, text))
    connection.execute("INSERT INTO items_fts (rowid, text) VALUES (?, ?)", (item, text))
    connection.execute("INSERT OR IGNORE INTO pending (item) VALUES (?)", (item,))


def replace_text(connection: apsw.Connection, item: int, text: str) -> None:
    """Change the text of an item."""
    _unindex(connection, item)
    connection.execute("UPDATE texts SET text = ? WHERE id = ?", (text, item))
    connection.execute("INSERT INTO items_fts (rowid, text) VALUES (?, ?)", (item, text))
    connection.execute("INSERT OR IGNORE INTO pending (item) VALUES (?)", (item,))


def remove_items(connection: apsw.Connection, items: Iterable[int]) -> int:
    """Delete items with all that hangs on them; return how many."""
    count = 0
    for item in items:
        _unindex(connection, item)
        connection.execute("DELETE FROM texts WHERE id = ?", (item,))
        connection.execute("DELETE FROM item_tags WHERE item = ?", (item,))
        connection.execute("DELETE FROM pending WHERE item = ?", (item,))
        connection.execute("DELETE FROM items WHERE id = ?", (item,))
        connection.execute(
            "INSERT OR IGNORE INTO vanished (item) SELECT ? WHERE EXISTS (SELECT 1 FROM models)", (item,)
        )
        count += 1
    return count


def _unindex(connection: apsw.Connection, item: int) -> None:
    connection.execute(
        "INSERT INTO items_fts (items_fts, rowid, text) SELECT 'delete', id, text FROM texts WHERE id = ?", (item,)
    )


def unite_tags(connection: apsw.Connection, item: int, tags: Iterable[str]) -> None:
    """Add tags to those the item has."""
    for name in tags:
        connection.execute("INSERT OR IGNORE INTO tags (name) VALUES (?)", (name,))
        connection.execute("INSERT OR IGNORE INTO item_tags SELECT ?, id FROM tags WHERE name = ?", (item, name))


def set_tags(connection: apsw.Connection, item: int, tags: Iterable[str]) -> None:
    """Replace the item's tags."""
    connection.execute("DELETE FROM item_tags WHERE item = ?", (item,))
    unite_tags(connection, item, tags)


def tags_of(connection: apsw.Connection, items: Sequence[int]) -> dict[int, list[str]]:
    """Return the sorted tags of each item."""
    found: dict[int, list[str]] = {item: [] for item in items}
    rows: Any = connection.execute(
        "SELECT item, name FROM json_each(?) CROSS JOIN item_tags ON item = value JOIN tags ON tags.id = tag "
        "ORDER BY name",
        (json.dumps([*found]),),
    )
    for item, name in rows:
        found[item].append(name)
    return found


def tagged(tags: Sequence[str]) -> tuple[str, tuple[str | int, ...]]:
    """Return SQL for the ids of items that carry all of `tags`, with its bindings."""
    names = sorted(set(tags))
    marks = ",".join("?" * len(names))
    sql = (
        f"SELECT item FROM item_tags JOIN tags ON tags.id = tag WHERE name IN ({marks}) "
        "GROUP BY item HAVING count(*) = ?"
    )
    return sql, (*names, len(names))
