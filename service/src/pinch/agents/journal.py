"""One session's file: JSON Lines that are only added to, and survive a kill, a power cut and an editor."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pinch.durable import to_disk
from pinch.errors import Conflict, StorageFull
from pinch.memory.rows import rfc3339

VERSION = 1
FREQUENT = ("final", "aborted", "error", "stop", "length")
"""Values that many ends have."""
KINDS = frozenset({"user", "assistant", "tool", "resumed", "end"})
ENTRY_OVERHEAD = 250
"""Bytes that an entry takes in memory beside its texts: the tuple, its time, its share of the run's name."""
MORE_OVERHEAD = 200
"""Bytes of a dictionary of what only some kinds have."""
MEMORY_SHARE = 3 / 2
"""Times a session's limit that its entries may take in memory: many short ones take more than their lines."""
LAST_MS, FIRST_MS = 253_402_300_799_999, -62_135_596_800_000
"""Ends of the calendar: a time beyond can be read here and there, and not be written again."""
READ_FACTOR = 4
"""Times its limit that of a file is read; one so long was not written here, and its end is what counts."""
PIECE = 64 * 1024


NONE: Mapping[str, Any] = MappingProxyType({})


class Entry(NamedTuple):
    """One line: what was said, called, returned, or how a run ended."""

    kind: str
    run: str
    at: int
    """Milliseconds since 1970."""
    text: str = ""
    more: Mapping[str, Any] = NONE
    """What only some kinds have: `calls` of an assistant, `call` and `name` of a tool, `state` and `stop` of an end."""

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, roughly."""
        more = MORE_OVERHEAD + sum(len(str(part)) for part in self.more.values()) if self.more else 0
        return ENTRY_OVERHEAD + sys.getsizeof(self.text) + more

    @property
    def weight(self) -> int:
        """Bytes that count against a session's limit."""
        return max(len(entry_line(self)), int(self.size / MEMORY_SHARE))


class Head(NamedTuple):
    """The first line."""

    key: str
    id: str
    created_at: int


class Stamp(NamedTuple):
    """What a file looks like from outside; another stamp is another content."""

    inode: int
    bytes: int
    changed_ns: int


class Contents(NamedTuple):
    """What a file holds, and what was wrong with it."""

    head: Head
    entries: list[Entry]
    whole_bytes: int
    """Length up to the end of the last whole line; the next one is written there."""
    stamp: Stamp
    torn_bytes: int = 0
    """What a kill or a power cut left of a line that was never acknowledged."""
    unread: bytes = b""
    """Whole lines that are no entries."""
    skipped_bytes: int = 0
    """What was not read of the beginning of a file that is too long."""


class Changed(Exception):
    """The file is not as it was: someone else has written to it."""


def stamp_of(path: Path) -> Stamp | None:
    """Return what the file looks like now, or None where there is none."""
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def create(path: Path, head: Head) -> Stamp:
    """Make the file with its first line, on disk.

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
        stamp = _stamp(os.fstat(file.fileno()))
        begin = max(0, stamp.bytes - READ_FACTOR * limit)
        file.seek(begin)
        cut = file.readline(stamp.bytes - begin) if begin else b""
        skipped = begin + len(cut)
        data = file.read(stamp.bytes - skipped)
    if cut and not cut.endswith(b"\n"):  # no line ends in all that was read: the next one needs a beginning
        stamp = _ended(path, stamp)
        return Contents(_unknown(key, []), [], stamp.bytes, stamp, skipped_bytes=stamp.bytes)
    head: Head | None = None
    entries: list[Entry] = []
    known = {text: text for text in (*KINDS, *FREQUENT)}
    unread = bytearray()
    torn = 0
    for line in io.BytesIO(data):  # never a list of all lines: it could take many times their bytes
        found = _parse(line, known)
        if not line.endswith(b"\n"):
            try:  # some editors leave the last line open
                stamp = stamp if found is None else _ended(path, stamp)
            except OSError:
                found = None
            if found is None:
                torn = len(line)
                break
        if isinstance(found, Entry):
            entries.append(found)
        elif isinstance(found, Head) and head is None:
            head = found._replace(key=key)  # the file's name counts: it may be a copy of another
        elif line.strip():
            unread += line if line.endswith(b"\n") else line + b"\n"
    return Contents(head or _unknown(key, entries), entries, stamp.bytes - torn, stamp, torn, bytes(unread), skipped)


def append(path: Path, whole_bytes: int, stamp: Stamp, entries: Iterable[Entry]) -> Stamp:
    """Add entries after `whole_bytes`; when this returns they are on disk. Returns the new stamp.

    Raises:
        Changed: the file is not the one of `stamp`.
        StorageFull: there is no room; the file is as it was.
    """
    data = b"".join(map(entry_line, entries))
    try:
        file = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        raise Changed from None
    except OSError as error:
        raise _explained(error) from None
    try:
        if _stamp(os.fstat(file)) != stamp:
            raise Changed
        try:
            if stamp.bytes > whole_bytes:
                os.ftruncate(file, whole_bytes)
            _write(file, data, whole_bytes)
            os.fdatasync(file)
            return _stamp(os.fstat(file))
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(file, whole_bytes)
            raise _explained(error) from None
    finally:
        os.close(file)


def rewrite(path: Path, head: Head, entries: Iterable[Entry]) -> Stamp:
    """Put a file with just these entries in the place of the old one.

    Raises:
        StorageFull: there is no room; the old file stays.
    """
    return _replace(path, _head_line(head) + b"".join(map(entry_line, entries)))


def set_aside(path: Path, lines: bytes, skipped_bytes: int = 0) -> Path:
    """Keep what could not be read beside the file: its first `skipped_bytes`, then `lines`; return where.

    Raises:
        StorageFull: there is no room; nothing was kept.
    """
    aside = path.with_suffix(".unread")
    try:
        with path.open("rb") as whole, aside.open("ab", buffering=0) as file:
            length = os.fstat(file.fileno()).st_size
            try:
                for begin in range(0, skipped_bytes, PIECE):
                    _write(file.fileno(), whole.read(min(PIECE, skipped_bytes - begin)), length + begin)
                _write(file.fileno(), lines, length + skipped_bytes)
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), length)
                raise
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


def entry_line(entry: Entry) -> bytes:
    """Return an entry as the line that it is in a file."""
    return _line({"type": entry.kind, "run": entry.run, "at": rfc3339(entry.at), "text": entry.text, **entry.more})


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _parse(line: bytes, known: dict[str, str]) -> Entry | Head | None:
    """Return what a line says, or None where it says nothing that is known: a person may have edited it.

    Texts that come again and again are taken from `known`, so that each is kept once.
    """
    try:
        raw = json.loads(line)
        kind, at = raw.pop("type"), milliseconds(raw.pop("at"))
        if not FIRST_MS <= at <= LAST_MS:
            return None
        if kind == "session":
            return Head(str(raw["key"]), str(raw["id"]), at)
        run, text = raw.pop("run"), raw.pop("text")
        if kind in KINDS and isinstance(run, str) and isinstance(text, str) and _sound(kind, raw):
            known.setdefault(run, run)
            more = {name: known.get(value, value) if isinstance(value, str) else value for name, value in raw.items()}
            return Entry(known[kind], known[run], at, text.encode("utf-8", "replace").decode(), more or NONE)
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
    if kind == "user":
        return (
            isinstance(more.get("instructions", ""), str)
            and isinstance(more.get("options", {}), dict)
            and isinstance(more.get("attended", False), bool)
        )
    needed = {"tool": ("call", "name"), "end": ("state",)}.get(kind, ())
    possible = {"end": ("stop", "error")}.get(kind, ())
    return all(isinstance(more.get(part), str) for part in needed) and all(
        isinstance(more.get(part, ""), str) for part in possible
    )


def _unknown(key: str, entries: Sequence[Entry]) -> Head:
    """Return the head of a file that has none; it is the same each time."""
    return Head(key, hashlib.sha256(key.encode()).hexdigest()[:32], entries[0].at if entries else 0)


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def _ended(path: Path, stamp: Stamp) -> Stamp:
    """End the last line; return the new stamp, or the old one where someone else has written meanwhile."""
    file = os.open(path, os.O_WRONLY)
    try:
        if _stamp(os.fstat(file)) != stamp:
            return stamp
        _write(file, b"\n", stamp.bytes)
        os.fdatasync(file)
        return _stamp(os.fstat(file))
    finally:
        os.close(file)


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _replace(path: Path, data: bytes) -> Stamp:
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            stamp = _stamp(os.fstat(file.fileno()))
        partial.rename(path)
        to_disk(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _explained(error) from None
    return stamp


def _explained(error: OSError) -> StorageFull | Conflict:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StorageFull("the disk is full; nothing was changed", hint="free some space")
    return Conflict(
        f"the session's file cannot be written: {error.strerror}; nothing was changed",
        hint="look at the owner and mode of the state folder",
    )
