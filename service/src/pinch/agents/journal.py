"""One session's file: JSON Lines that are only added to, and survive a kill, a power cut and an editor."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pinch.errors import Conflict, StorageFull
from pinch.memory.rows import rfc3339

VERSION = 1
KINDS = frozenset({"user", "assistant", "tool", "resumed", "end"})
ENTRY_OVERHEAD = 600
"""Bytes that an entry takes in memory beside its texts."""
READ_FACTOR = 4
"""Times its limit that of a file is read; one so long was not written here, and its end is what counts."""


class Entry(NamedTuple):
    """One line: what was said, called, returned, or how a run ended."""

    kind: str
    run: str
    at: int
    """Milliseconds since 1970."""
    text: str = ""
    more: Mapping[str, Any] = {}
    """What only some kinds have: `calls` of an assistant, `call` and `name` of a tool, `state` and `stop` of an end."""

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, roughly."""
        return ENTRY_OVERHEAD + sys.getsizeof(self.text) + sum(sys.getsizeof(str(part)) for part in self.more.values())


class Head(NamedTuple):
    """The first line."""

    key: str
    id: str
    created_at: int


class Contents(NamedTuple):
    """What a file holds, and what was wrong with it."""

    head: Head
    entries: list[Entry]
    whole_bytes: int
    """Length up to the end of the last whole line; the next one is written there."""
    file_bytes: int
    torn_bytes: int
    """What a kill or a power cut left of a line that was never acknowledged."""
    unread: list[bytes]
    """Whole lines that are no entries."""


class Changed(Exception):
    """The file is not as long as it was: someone else has written to it."""


def create(path: Path, head: Head) -> int:
    """Make the file with its first line, on disk; return its length.

    Raises:
        StorageFull: it cannot be written; nothing is left of it.
    """
    return _replace(path, _head_line(head))


def load(path: Path, key: str, limit: int) -> Contents:
    """Read the file; of one longer than `READ_FACTOR` times `limit` bytes the end alone.

    Raises:
        FileNotFoundError: there is none.
    """
    with path.open("rb") as file:
        file_bytes = file.seek(0, os.SEEK_END)
        begin = max(0, file_bytes - READ_FACTOR * limit)
        file.seek(begin)
        data = file.read()
    if begin:
        data = data[data.find(b"\n") + 1 :]
    lines = data.split(b"\n")
    torn = lines.pop()
    if torn and _parse(torn) is not None and _ended(path, file_bytes):  # some editors leave the last line open
        lines.append(torn)
        torn, file_bytes = b"", file_bytes + 1
    head: Head | None = None
    entries: list[Entry] = []
    unread: list[bytes] = []
    for line in lines:
        found = _parse(line)
        if isinstance(found, Entry):
            entries.append(found)
        elif isinstance(found, Head) and head is None:
            head = found
        elif line.strip():
            unread.append(line)
    if head is None:
        head = Head(key, hashlib.sha256(key.encode()).hexdigest()[:32], entries[0].at if entries else 0)
    return Contents(head, entries, file_bytes - len(torn), file_bytes, len(torn), unread)


def append(path: Path, whole_bytes: int, file_bytes: int, entries: Iterable[Entry]) -> int:
    """Add entries after `whole_bytes`; when this returns they are on disk. Returns the new length.

    Raises:
        Changed: the file has not `file_bytes` bytes.
        StorageFull: there is no room; the file is as it was.
    """
    data = b"".join(map(_entry_line, entries))
    try:
        file = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        raise Changed from None
    except OSError as error:
        raise _explained(error) from None
    try:
        if os.fstat(file).st_size != file_bytes:
            raise Changed
        if file_bytes > whole_bytes:
            os.ftruncate(file, whole_bytes)
        try:
            _write(file, data, whole_bytes)
            os.fdatasync(file)
        except OSError as error:
            os.ftruncate(file, whole_bytes)
            raise _explained(error) from None
    finally:
        os.close(file)
    return whole_bytes + len(data)


def rewrite(path: Path, head: Head, entries: Iterable[Entry]) -> int:
    """Put a file with just these entries in the place of the old one; return its length.

    Raises:
        StorageFull: there is no room; the old file stays.
    """
    return _replace(path, _head_line(head) + b"".join(map(_entry_line, entries)))


def set_aside(path: Path, lines: Sequence[bytes]) -> Path:
    """Keep lines that could not be read beside the file; return where.

    Raises:
        StorageFull: there is no room.
    """
    aside = path.with_suffix(".unread")
    try:
        with aside.open("ab") as file:
            file.writelines(line + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _explained(error) from None
    return aside


def milliseconds(text: str) -> int:
    """Return a time in RFC 3339 as milliseconds since 1970.

    Raises:
        ValueError: it is none, or has no zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return round(moment.timestamp() * 1000)


def _head_line(head: Head) -> bytes:
    at = rfc3339(head.created_at)
    return _line({"type": "session", "version": VERSION, "key": head.key, "id": head.id, "at": at})


def _entry_line(entry: Entry) -> bytes:
    return _line({"type": entry.kind, "run": entry.run, "at": rfc3339(entry.at), "text": entry.text, **entry.more})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _parse(line: bytes) -> Entry | Head | None:
    """Return what a line says, or None where it says nothing that is known: a person may have edited it."""
    try:
        raw = json.loads(line)
        kind, at = raw.pop("type"), milliseconds(raw.pop("at"))
        if kind == "session":
            return Head(str(raw["key"]), str(raw["id"]), at)
        run, text = raw.pop("run"), raw.pop("text")
        if kind in KINDS and isinstance(run, str) and isinstance(text, str) and _sound(kind, raw):
            return Entry(kind, run, at, text, raw)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    return None


def _sound(kind: str, more: Mapping[str, Any]) -> bool:
    if kind == "assistant":
        calls = more.get("calls", [])
        return isinstance(calls, list) and all(
            isinstance(call, dict) and all(isinstance(call.get(part), str) for part in ("id", "name", "arguments"))
            for call in calls
        )
    needed = {"tool": ("call", "name"), "end": ("state",)}.get(kind, ())
    return all(isinstance(more.get(part), str) for part in needed)


def _ended(path: Path, file_bytes: int) -> bool:
    """End the last line; return whether that went well."""
    try:
        with path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) != file_bytes:
                return False
            file.write(b"\n")
            file.flush()
            os.fdatasync(file.fileno())
    except OSError:
        return False
    return True


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _replace(path: Path, data: bytes) -> int:
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _explained(error) from None
    return len(data)


def sync_folder(folder: Path) -> None:
    """Put what was made, renamed or removed in `folder` on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError) -> StorageFull | Conflict:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StorageFull("the disk is full; nothing was changed", hint="free some space")
    return Conflict(
        f"the session's file cannot be written: {error.strerror}; nothing was changed",
        hint="look at the owner and mode of the state folder",
    )
