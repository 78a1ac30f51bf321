"""Documents: a new version arrives chunk by chunk unseen, and takes the old one's place at once."""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import apsw

from pinch.errors import Invalid, NotFound, PinchError, StorageFull
from pinch.memory import rows
from pinch.memory.chunking import Chunk, Chunker
from pinch.memory.writer import Writer

log = logging.getLogger(__name__)

BATCH = 64
"""Chunks that one write stores or deletes; a document of fewer is stored in one transaction."""
RESERVE_BYTES = 16 * 1024 * 1024
"""Room on the disk that large documents leave, so that there is always enough to delete something."""
DROPPED = "dropped/"
"""Start of the keys in `meta` that name documents whose chunks are still to be deleted."""
PATH_LIMIT = 1024
"""Longest document path, bytes."""


class Document(NamedTuple):
    """A stored document."""

    path: str
    space: str
    sha256: str
    bytes: int
    chunks: int
    at: str


class Stored(NamedTuple):
    """What became of an upload."""

    document: Document
    created: bool
    changed: bool


class Origin(NamedTuple):
    """Where a synced document was read: its folder, and the file's time in nanoseconds."""

    folder: str
    mtime_ns: int


def check_path(path: str) -> str:
    """Return a document path as it is stored: relative, of forward slashes, with no `..`.

    Raises:
        Invalid: the path leaves its root or holds what no path may.
    """
    hint = "use a relative path such as notes/2026/may.md"
    if not path or len(path.encode("utf-8", "surrogatepass")) > PATH_LIMIT:
        raise Invalid(
            f"document path has {len(path)} characters; expected 1 to {PATH_LIMIT} bytes", param="path", hint=hint
        )
    if path.startswith("/") or "\\" in path or any(part in {"", ".", ".."} for part in path.split("/")):
        raise Invalid(f"document path {path[:80]!r} is not a plain relative path", param="path", hint=hint)
    if any(ord(sign) < 32 or ord(sign) == 127 or 0xD800 <= ord(sign) <= 0xDFFF for sign in path):
        raise Invalid(f"document path {path[:80]!r} holds control characters", param="path", hint=hint)
    return str(PurePosixPath(path))


class Upload:
    """One document on its way in; feed it bytes, then finish or abandon it."""

    def __init__(
        self,
        writer: Writer,
        space: str,
        path: str,
        now: int,
        chunker: Chunker,
        *,
        origin: Origin | None = None,
    ) -> None:
        self.writer = writer
        self.space = space
        self.path = path
        self.now = now
        self.chunker = chunker
        self.origin = origin
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._waiting: list[Chunk] = []
        self._row: int | None = None
        self._stored = 0

    async def feed(self, data: bytes) -> None:
        """Take the next bytes; store what makes a full batch.

        Raises:
            Invalid: they are no UTF-8 text.
            Busy, StorageFull: as the writer says.
        """
        self._hash.update(data)
        self._take(self._decode(data, final=False))
        self._bytes += len(data)
        while len(self._waiting) >= BATCH:
            await self._store(self._waiting[:BATCH])

    async def finish(self) -> Stored:
        """Store the rest and let the document take its place."""
        self._take(self._decode(b"", final=True), last=True)
        return await self.writer.run(self._complete, self._cost())

    async def abandon(self) -> None:
        """Drop what was stored of it; the version before stays."""
        row = self._row
        if row is None:
            return
        try:
            await self.writer.run(lambda connection: drop_unfinished(connection, [row]))
        except PinchError as error:
            log.warning("what was stored of %s stays, unseen, until the next start: %s", self.path, error.message)

    async def _store(self, batch: Sequence[Chunk]) -> None:
        _leave_room(self.writer.path.parent)
        self._row = await self.writer.run(
            lambda connection: self._append(connection, batch, self._stored), self._cost()
        )
        self._stored += len(batch)
        del self._waiting[: len(batch)]

    def _decode(self, data: bytes, *, final: bool) -> str:
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            raise Invalid(
                f"document {self.path} is not UTF-8: {error.reason} near byte {self._bytes + error.start}",
                param="body",
                hint="documents are UTF-8 text; convert it first",
            ) from None
        if "\0" in text:
            raise Invalid(
                f"document {self.path} holds NUL bytes", param="body", hint="documents are text, not binary files"
            )
        return text

    def _take(self, text: str, *, last: bool = False) -> None:
        self._waiting.extend(self.chunker.feed(text))
        if last:
            self._waiting.extend(self.chunker.finish())

    def _cost(self) -> int:
        """Return the bytes of the chunks held here, for the ledger."""
        return sum(len(chunk.text.encode()) for chunk in self._waiting)

    def _append(self, connection: apsw.Connection, batch: Sequence[Chunk], first: int) -> int:
        row = self._row
        if row is None:
            space = rows.space_id(connection, self.space, create=True)
            connection.execute(
                "INSERT INTO documents (space, path, live, sha256, bytes, chunks, at) VALUES (?, ?, 0, '', 0, 0, ?)",
                (space, self.path, self.now),
            )
            row = connection.last_insert_rowid()
        for offset, chunk in enumerate(batch):
            connection.execute(
                "INSERT INTO items (kind, space, document, seq, digest, at, created_at, line_first, line_last) "
                "VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    rows.HIDDEN_SPACE,
                    row,
                    first + offset,
                    rows.digest_of(chunk.text),
                    self.now,
                    self.now,
                    chunk.line_first,
                    chunk.line_last,
                ),
            )
            rows.add_text(connection, connection.last_insert_rowid(), chunk.text)
        return row

    def _complete(self, connection: apsw.Connection) -> Stored:
        sha256 = self._hash.hexdigest()
        space = rows.space_id(connection, self.space, create=True)
        before = connection.execute(
            "SELECT id, sha256 FROM documents WHERE space = ? AND path = ? AND live", (space, self.path)
        ).fetchone()
        origin = (self.origin.folder, self.origin.mtime_ns) if self.origin else (None, None)
        if before is not None and before[1] == sha256:
            if self._row is not None:
                _drop(connection, self._row)
            connection.execute("UPDATE documents SET folder = ?, mtime_ns = ? WHERE id = ?", (*origin, before[0]))
            return Stored(get(connection, self.space, self.path), created=False, changed=False)
        row = self._append(connection, self._waiting, self._stored)
        if before is not None:
            _drop(connection, before[0])
        connection.execute(
            "UPDATE documents SET live = 1, sha256 = ?, bytes = ?, chunks = ?, folder = ?, mtime_ns = ? WHERE id = ?",
            (sha256, self._bytes, self._stored + len(self._waiting), *origin, row),
        )
        connection.execute("UPDATE items SET space = ? WHERE document = ?", (space, row))
        return Stored(get(connection, self.space, self.path), created=before is None, changed=True)


def _leave_room(folder: Path) -> None:
    """Refuse to take the disk's last room.

    Raises:
        StorageFull: less than the reserve is left.
    """
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < RESERVE_BYTES:
        raise StorageFull(
            f"the disk has {free // 1024} KiB left, and large documents leave {RESERVE_BYTES // 1024} KiB; "
            "nothing was stored",
            hint="free some space and try again",
        )


def _drop(connection: apsw.Connection, row: int) -> None:
    """Let a document vanish at once; the chunks of a large one are hidden, and `sweep` deletes them."""
    connection.execute("DELETE FROM documents WHERE id = ?", (row,))
    if _delete_chunks(connection, row):
        # Without its digest a chunk has no vector either, be it stored already or still being made.
        visible = (row, rows.HIDDEN_SPACE)
        connection.execute(
            "INSERT OR IGNORE INTO vanished SELECT id FROM items WHERE document = ? AND space != ?", visible
        )
        connection.execute(
            "UPDATE items SET space = ?, digest = x'' WHERE document = ? AND space != ?", (rows.HIDDEN_SPACE, *visible)
        )
        connection.execute("INSERT INTO meta VALUES (?, ?)", (f"{DROPPED}{row}", row))


def _delete_chunks(connection: apsw.Connection, row: int) -> bool:
    """Delete a batch of a document's chunks; return whether there may be more."""
    found = connection.execute("SELECT id FROM items WHERE document = ? LIMIT ?", (row, BATCH)).fetchall()
    return rows.remove_items(connection, [int(str(item)) for (item,) in found]) == BATCH


def sweep(connection: apsw.Connection) -> bool:
    """Delete a batch of chunks of dropped documents; return whether there is more to delete."""
    dropped = connection.execute(
        "SELECT key, value FROM meta WHERE key > ? AND key < ? LIMIT 1", (DROPPED, DROPPED + ":")
    ).fetchone()
    if dropped is None:
        return False
    key, row = dropped
    if not _delete_chunks(connection, row):
        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
    return True


def unfinished(connection: apsw.Connection) -> list[int]:
    """Return the rows of documents that are not whole: they arrive, or a kill or a power cut ended them."""
    return [int(str(row)) for (row,) in connection.execute("SELECT id FROM documents WHERE NOT live")]


def drop_unfinished(connection: apsw.Connection, documents: Sequence[int]) -> None:
    """Drop those of `documents` that are not whole."""
    for row in documents:
        if connection.execute("SELECT 1 FROM documents WHERE id = ? AND NOT live", (row,)).fetchone():
            _drop(connection, row)


_SELECT = "SELECT path, name, sha256, bytes, chunks, at FROM documents JOIN spaces ON spaces.id = space WHERE live "


def _build(row: Sequence[Any]) -> Document:
    path, space, sha256, size, chunks, at = row
    return Document(path, space, sha256, size, chunks, rows.rfc3339(at))


def get(connection: apsw.Connection, space: str, path: str) -> Document:
    """Return one document.

    Raises:
        NotFound: the space has none of that path.
    """
    row = connection.execute(_SELECT + "AND name = ? AND path = ?", (space, path)).fetchone()
    if row is None:
        raise NotFound(f"there is no document {path[:80]!r} in space {space!r}", param="path")
    return _build(row)


def remove(connection: apsw.Connection, space: str, path: str) -> None:
    """Delete one document.

    Raises:
        NotFound: the space has none of that path.
    """
    get(connection, space, path)
    row = connection.execute(
        "SELECT documents.id FROM documents JOIN spaces ON spaces.id = space WHERE live AND name = ? AND path = ?",
        (space, path),
    ).fetchone()
    assert row is not None
    _drop(connection, int(str(row[0])))


def listing(
    connection: apsw.Connection, *, space: str, prefix: str, limit: int, cursor: str | None
) -> tuple[list[Document], str | None]:
    """Return up to `limit` documents of a space in order of path, and the next page's cursor or None.

    Raises:
        Invalid: the cursor is none of ours.
    """
    after = _parse_cursor(cursor) if cursor is not None else ""
    found = connection.execute(
        _SELECT + "AND name = ? AND path > ? AND substr(path, 1, ?) = ? ORDER BY path LIMIT ?",
        (space, after, len(prefix), prefix, limit + 1),
    ).fetchall()
    page = [_build(row) for row in found[:limit]]
    return page, _make_cursor(page[-1].path) if len(found) > limit else None


def _make_cursor(path: str) -> str:
    return base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> str:
    try:
        return check_path(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("utf-8")
        )
    except (binascii.Error, ValueError, Invalid):
        raise Invalid(
            f"cursor is {cursor[:40]!r}, which this service did not make",
            param="cursor",
            hint="pass the cursor of the last page, or none",
        ) from None
