"""One session in memory, and what a list says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

from pinch.agents import journal
from pinch.agents.journal import Contents, Entry
from pinch.errors import Invalid

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,119}", re.ASCII)
TITLE_CHARACTERS = 60
LINE_END = b"\n"
KEEP_SHARE = 2
"""A compacted file keeps half of its limit."""


class Summary(NamedTuple):
    """What a list says of a session. Times in milliseconds since 1970."""

    key: str
    id: str
    updated_at: int
    title: str
    """Beginning of the first message."""
    messages: int
    file_bytes: int
    open: bool
    """Whether a run has begun and not ended."""
    damage: str
    """What was wrong with the file when it was read, or nothing."""


SUMMARY_TYPES = tuple(get_type_hints(Summary).values())


class Session:
    """One session in memory."""

    def __init__(self, path: Path, contents: Contents) -> None:
        self.path = path
        self.take(contents)

    def take(self, contents: Contents) -> None:
        """Become what the file holds."""
        self.head = contents.head
        self.entries: list[Entry] = []
        self._runs: dict[str, bool] = {}
        """Whether each run has ended, in the order in which they began."""
        self._messages = 0
        self._title = ""
        self._memory_bytes = len(contents.unread)
        self.add(contents.entries)
        self.whole_bytes = contents.whole_bytes
        self.stamp = contents.stamp
        self.unread = contents.unread
        self.skipped_bytes = contents.skipped_bytes
        self.damage = _damage(contents)

    @property
    def file_bytes(self) -> int:
        """Length of its file."""
        return self.stamp.bytes

    @property
    def current(self) -> bool:
        """Whether its file is as it was left: nobody else has written to it."""
        return journal.stamp_of(self.path) == self.stamp

    @property
    def memory_bytes(self) -> int:
        """Bytes that it takes in memory, roughly."""
        return self._memory_bytes

    @property
    def weight(self) -> int:
        """Bytes that count against its limit: those of its file, or what its entries take in memory if that is more."""
        return max(self.file_bytes, int(self._memory_bytes / journal.MEMORY_SHARE))

    def add(self, entries: Sequence[Entry]) -> None:
        """Hear of entries that are in the file; what is told of the session is kept, not counted each time."""
        self.entries.extend(entries)
        for entry in entries:
            self._memory_bytes += entry.size
            if entry.kind == "end":
                self._runs[entry.run] = True
            else:
                self._runs.setdefault(entry.run, False)
            if entry.kind in {"user", "assistant"} and entry.text:
                self._messages += 1
                if entry.kind == "user" and not self._title:
                    self._title = " ".join(entry.text[: 4 * TITLE_CHARACTERS].split())[:TITLE_CHARACTERS]

    def open_runs(self) -> list[str]:
        """Return the runs that have begun and not ended, in order."""
        begun = {entry.run for entry in self.entries if entry.kind == "user"} if self.open else set()
        return [run for run, ended in self._runs.items() if not ended and run in begun]

    @property
    def open(self) -> bool:
        """Whether something has begun and not ended."""
        return not all(self._runs.values())

    def ended(self, run: str) -> bool | None:
        """Return whether a run has ended, or None where there is none of that name."""
        return self._runs.get(run)

    def summary(self) -> Summary:
        """Return its line of the list."""
        return Summary(
            key=self.head.key,
            id=self.head.id,
            updated_at=self.entries[-1].at if self.entries else self.head.created_at,
            title=self._title,
            messages=self._messages,
            file_bytes=self.file_bytes,
            open=self.open,
            damage=self.damage,
        )


def check_key(key: str) -> str:
    """Return a session's key that may name a file.

    Raises:
        Invalid: it may not.
    """
    if KEY.fullmatch(key) is None:
        raise Invalid(
            f"session key is {key[:40]!r}; expected 1 to 120 of A-Z a-z 0-9 . _ : @ + -, a letter or digit first",
            param="sessionKey",
        )
    return key


def split(entries: Sequence[Entry], limit: int) -> tuple[list[Entry], list[Entry]]:
    """Return the entries of the runs to drop and to keep: the newest that fit, and open ones anyway.

    The last one stays too, unless the session would take no more because of it.
    """
    sizes: dict[str, int] = {}
    ended = set()
    for entry in entries:
        sizes[entry.run] = sizes.get(entry.run, 0) + entry.weight
        if entry.kind == "end":
            ended.add(entry.run)
    kept: set[str] = set()
    total = 0
    for run in reversed(sizes):
        total += sizes[run]
        if total > limit // KEEP_SHARE and (kept or total > limit):
            break
        kept.add(run)
    kept |= sizes.keys() - ended
    return [one for one in entries if one.run not in kept], [one for one in entries if one.run in kept]


def _damage(contents: Contents) -> str:
    parts = []
    if contents.torn_bytes:
        parts.append(f"a last line that was not finished ({contents.torn_bytes} bytes) was dropped")
    if contents.unread:
        parts.append(f"{contents.unread.count(LINE_END)} lines are no entries and were skipped")
    if contents.skipped_bytes:
        parts.append(f"it is too long, and its first {contents.skipped_bytes} bytes were skipped")
    return "; ".join(parts)
