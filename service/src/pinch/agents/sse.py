"""Server-sent events as a stream of chunks brings them, within a limit."""

from __future__ import annotations

import codecs
from collections.abc import Iterator


class EventTooLong(ValueError):
    """An event is longer than the limit."""


class EventStream:
    """Feed it bytes, take the data of whole events (WHATWG HTML, section 9.2.6); other fields are ignored."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Bytes that one event may have."""
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._returned = False
        """Whether the last chunk ended with a carriage return: a line feed that follows belongs to it."""
        self._begun = False
        """Whether the first line has come, which may begin with a byte order mark."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that `chunk` completes.

        Raises:
            EventTooLong: one is longer than the limit.
        """
        if not chunk:
            return
        if self._returned:
            chunk = chunk.removeprefix(b"\n")
        self._returned = chunk.endswith(b"\r")
        begin, looked = 0, len(self._rest)  # what was there has no line's end: it is not looked through again
        self._rest += chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        while (end := self._rest.find(b"\n", max(begin, looked))) >= 0:
            line = bytes(self._rest[begin:end])
            begin = end + 1
            if not self._begun:
                self._begun, line = True, line.removeprefix(codecs.BOM_UTF8)
            if line.startswith(b"data:"):
                self._size += len(line)
                self._within(self._size)
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()
                self._size = 0
        del self._rest[:begin]
        self._within(self._size + len(self._rest))

    def _within(self, size: int) -> None:
        if size > self.limit:
            raise EventTooLong(size)
