"""The last lines of the log, kept in memory for `logs.tail`."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

LIMIT_BYTES = 48 * 1024
"""Bytes of lines that are kept; the journal has them all."""
LINE_CHARACTERS = 1000


class Tail(NamedTuple):
    """Some lines of the log. Positions count bytes since the start of the service."""

    cursor: int
    """Position after the last of these lines: what comes next begins here."""
    size: int
    """Position after the last line there is."""
    lines: list[str]
    truncated: bool
    """Whether lines before these were left out."""
    reset: bool
    """Whether the cursor asked for lines that are gone, or were never there."""


class Logbook(logging.Handler):
    """A handler that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[tuple[int, str]] = deque()
        """Position after each line, and the line."""
        self._held = 0
        self._size = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, and let the oldest go where there are too many."""
        try:
            text = self.format(record)[:LINE_CHARACTERS]
        except Exception:  # noqa: BLE001 - a line that is wrong must not stop who wrote it
            self.handleError(record)
            return
        length = len(text.encode("utf-8", "replace")) + 1
        self._size += length
        self._held += length
        self._lines.append((self._size, text))
        while self._held > LIMIT_BYTES:
            end, _ = self._lines.popleft()
            self._held = self._size - end

    def tail(self, cursor: int | None, limit: int, max_bytes: int) -> Tail:
        """Return the last lines or, with a cursor, the next ones after it."""
        self.acquire()
        try:
            lines = list(self._lines)
            size, oldest = self._size, self._size - self._held
        finally:
            self.release()
        reset = cursor is not None and not oldest <= cursor <= size
        if cursor is None or reset:
            chosen = _within(reversed(lines), limit, max_bytes)[::-1]
        else:
            chosen = _within((line for line in lines if line[0] > cursor), limit, max_bytes)
        begin = chosen[0][0] - len(chosen[0][1].encode("utf-8", "replace")) - 1 if chosen else size
        end = chosen[-1][0] if chosen else size
        earliest = oldest if cursor is None or reset else cursor
        return Tail(end, size, [text for _, text in chosen], begin > earliest and begin > 0, reset)


def _within(lines: Iterable[tuple[int, str]], limit: int, max_bytes: int) -> list[tuple[int, str]]:
    chosen: list[tuple[int, str]] = []
    for end, text in lines:
        max_bytes -= len(text.encode("utf-8", "replace")) + 1
        if len(chosen) == limit or (max_bytes < 0 and chosen):
            break
        chosen.append((end, text))
    return chosen
