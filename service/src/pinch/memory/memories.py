"""Memories: remembering, listing, changing and forgetting single texts."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from pinch.errors import Conflict, Invalid, NotFound
from pinch.memory import rows

PREFIX = "m"
"""First letter of a memory's public id; a chunk's is `c`."""
PAGE_BYTES = 256 * 1024
"""Bytes of UTF-8 that the texts of one page may have together."""


class NewMemory(NamedTuple):
    """A text to remember; `at` in milliseconds since 1970."""

    text: str
    space: str = "default"
    tags: tuple[str, ...] = ()
    source: str | None = None
    thread: str | None = None
    at: int | None = None


class Remembered(NamedTuple):
    """What became of a `NewMemory`."""

    id: str
    created: bool


class Memory(NamedTuple):
    """A stored memory."""

    id: str
    space: str
    text: str
    tags: list[str]
    source: str | None
    thread: str | None
    at: str
    created_at: str


class Change(NamedTuple):
    """What a PATCH sets; a field that is absent from `given` stays."""

    given: frozenset[str]
    text: str = ""
    tags: tuple[str, ...] = ()
    source: str | None = None
    thread: str | None = None
    at: int | None = None


def parse_id(public: str) -> int:
    """Return the row behind a public id.

    Raises:
        NotFound: it is no memory's id.
    """
    number = public.removeprefix(PREFIX)
    if not public.startswith(PREFIX) or not number.isascii() or not number.isdigit() or len(number) > 18:
        raise NotFound(
            f"there is no memory {public[:40]!r}", param="id", hint="ids come from POST /v1/memories or a hit"
        )
    return int(number)


def remember(connection: apsw.Connection, memories: Sequence[NewMemory], now: int) -> list[Remembered]:
    """Store memories in order; the same text in the same space and thread is one memory.

    Args:
        connection: the writing one, inside a transaction.
        memories: what to store.
        now: milliseconds since 1970.
    """
    return [_remember(connection, memory, now) for memory in memories]


def _remember(connection: apsw.Connection, memory: NewMemory, now: int) -> Remembered:
    space = rows.space_id(connection, memory.space, create=True)
    assert space is not None
    thread = rows.thread_id(connection, space, memory.thread) if memory.thread is not None else None
    digest = rows.digest_of(memory.text)
    known = connection.execute(
        "SELECT id FROM items WHERE kind = 0 AND space = ? AND ifnull(thread, 0) = ? AND digest = ?",
        (space, thread or 0, digest),
    ).fetchone()
    if known is not None:
        rows.unite_tags(connection, known[0], memory.tags)
        return Remembered(f"{PREFIX}{known[0]}", created=False)
    connection.execute(
        "INSERT INTO items (kind, space, thread, seq, digest, at, created_at, source) VALUES (0, ?, ?, ?, ?, ?, ?, ?)",
        (
            space,
            thread,
            0 if thread is None else rows.next_seq(connection, thread),
            digest,
            now if memory.at is None else memory.at,
            now,
            memory.source,
        ),
    )
    item = connection.last_insert_rowid()
    rows.add_text(connection, item, memory.text)
    rows.unite_tags(connection, item, memory.tags)
    return Remembered(f"{PREFIX}{item}", created=True)


_SELECT = """
    SELECT items.id, spaces.name, texts.text, items.source, threads.name, items.at, items.created_at
    FROM items JOIN texts ON texts.id = items.id JOIN spaces ON spaces.id = items.space
    LEFT JOIN threads ON threads.id = items.thread
"""


def _build(connection: apsw.Connection, found: Sequence[Any]) -> list[Memory]:
    tags = rows.tags_of(connection, [row[0] for row in found])
    return [
        Memory(f"{PREFIX}{item}", space, text, tags[item], source, thread, rows.rfc3339(at), rows.rfc3339(created))
        for item, space, text, source, thread, at, created in found
    ]


def get(connection: apsw.Connection, public: str) -> Memory:
    """Return one memory.

    Raises:
        NotFound: there is none of that id.
    """
    found = connection.execute(_SELECT + "WHERE items.id = ? AND items.kind = 0", (parse_id(public),)).fetchall()
    if not found:
        raise NotFound(f"there is no memory {public!r}", param="id")
    return _build(connection, found)[0]


def listing(
    connection: apsw.Connection, *, space: str | None, tag: str | None, limit: int, cursor: str | None
) -> tuple[list[Memory], str | None]:
    """Return up to `limit` memories, newest first, and the cursor of the next page or None.

    A page ends before its texts pass `PAGE_BYTES`, and has one memory at least.

    Raises:
        Invalid: the cursor is none of ours.
    """
    clauses, bindings = ["items.kind = 0"], list[Any]()
    if cursor is not None:
        clauses.append("items.id < ?")
        bindings.append(parse_cursor(cursor))
    if space is not None:
        clauses.append("items.space = ?")
        bindings.append(rows.space_id(connection, space) or -1)
    if tag is not None:
        sql, values = rows.tagged([tag])
        clauses.append(f"items.id IN ({sql})")
        bindings.extend(values)
    page, size, following = list[int](), 0, None
    lengths: Any = connection.execute(
        "SELECT items.id, octet_length(texts.text) FROM items JOIN texts ON texts.id = items.id "
        f"WHERE {' AND '.join(clauses)} ORDER BY items.id DESC LIMIT ?",
        (*bindings, limit + 1),
    )
    for item, length in lengths:
        size += length
        if page and (len(page) == limit or size > PAGE_BYTES):
            following = make_cursor(page[-1])
            break
        page.append(item)
    found = connection.execute(
        _SELECT + "WHERE items.id IN (SELECT value FROM json_each(?)) ORDER BY items.id DESC", (json.dumps(page),)
    ).fetchall()
    return _build(connection, found), following


def make_cursor(value: int) -> str:
    """Return an opaque cursor that continues after `value`."""
    return base64.urlsafe_b64encode(f"after:{value}".encode()).decode().rstrip("=")


def parse_cursor(cursor: str) -> int:
    """Return the value in a cursor.

    Raises:
        Invalid: it was not made by `make_cursor`.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        label, _, value = text.partition(":")
        if label == "after" and value.isdigit() and len(value) < 19:
            return int(value)
    except (binascii.Error, ValueError):
        pass
    raise Invalid(
        f"cursor is {cursor[:40]!r}, which this service did not make",
        param="cursor",
        hint="pass the cursor of the last page, or none",
    )


def change(connection: apsw.Connection, public: str, wanted: Change) -> Memory:
    """Change fields of a memory.

    Raises:
        NotFound: there is none of that id.
        Conflict: the same text is already another memory of that space and thread.
    """
    before = get(connection, public)
    item = parse_id(public)
    space = rows.space_id(connection, before.space)
    assert space is not None
    text = wanted.text if "text" in wanted.given else before.text
    thread_name = wanted.thread if "thread" in wanted.given else before.thread
    thread = rows.thread_id(connection, space, thread_name) if thread_name is not None else None
    digest = rows.digest_of(text)
    clash = connection.execute(
        "SELECT id FROM items WHERE kind = 0 AND space = ? AND ifnull(thread, 0) = ? AND digest = ? AND id != ?",
        (space, thread or 0, digest, item),
    ).fetchone()
    if clash is not None:
        raise Conflict(
            f"memory {PREFIX}{clash[0]} already has this text in that space and thread",
            param="text",
            hint="delete one of the two",
        )
    # One statement: with only one of the two changed it may for a moment be a third memory.
    if thread_name != before.thread:
        seq = 0 if thread is None else rows.next_seq(connection, thread)
        connection.execute("UPDATE items SET thread = ?, seq = ?, digest = ? WHERE id = ?", (thread, seq, digest, item))
    if text != before.text:
        rows.replace_text(connection, item, text)
        connection.execute("UPDATE items SET digest = ? WHERE id = ?", (digest, item))
    if "source" in wanted.given:
        connection.execute("UPDATE items SET source = ? WHERE id = ?", (wanted.source, item))
    if "at" in wanted.given:
        connection.execute("UPDATE items SET at = ? WHERE id = ?", (wanted.at, item))
    if "tags" in wanted.given:
        rows.set_tags(connection, item, wanted.tags)
    return get(connection, public)


def forget(connection: apsw.Connection, public: str) -> None:
    """Delete a memory.

    Raises:
        NotFound: there is none of that id.
    """
    get(connection, public)
    rows.remove_items(connection, [parse_id(public)])
