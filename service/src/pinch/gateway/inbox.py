"""What has come of a WebSocket message that is not complete: counted from the socket, before it is anything else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pinch.errors import Busy
from pinch.gateway.reading import InFlight

FIN, OPCODE, CONTROL = 0x80, 0x0F, 0x08
"""Bits of a frame's first byte (RFC 6455, section 5.2)."""
MASK, LENGTH = 0x80, 0x7F
"""Bits of its second."""
PROTOCOL_ERROR = 1002
TOO_BIG = 1009
REST_BYTES = 1024 * 1024
"""What a client may have sent before it sees that it is told to go, so that it does see it."""
TRY_AGAIN_LATER = 1013


class Inbox:
    """The bytes of one connection's unfinished message, booked with those of all the others."""

    def __init__(
        self, in_flight: InFlight, limit: int, refuse: Callable[[int, str], None], cut: Callable[[], None]
    ) -> None:
        self.in_flight = in_flight
        self.limit = limit
        """Bytes on the wire that one message may have."""
        self.refuse = refuse
        """Called once, with a close code and a reason, when no more is taken."""
        self.cut = cut
        """Called when a client that was told to go sends on and on."""
        self.unread = 0
        self.since: float | None = None
        """Loop time at which the unfinished message began; None where there is none."""
        self.closed = False
        self._rest: int | None = None
        """Bytes that may still come once the connection is being closed."""
        self._message = 0
        """Bytes of the message whose frames come now, announced ones too."""
        self._unended = False
        """Whether a fragment came that is not the last one."""
        self._header = bytearray()
        self._payload = 0
        """Bytes of the frame that comes now which are not here yet."""
        self._first, self._frame_bytes, self._fragments_bytes = 0, 0, 0
        """First byte of that frame, its length on the wire, and that of the message's frames before it."""
        self._whole: deque[int] = deque()
        """Length on the wire of each message that is complete and was not taken yet."""

    def arrived(self, data: bytes) -> bool:
        """Count bytes from the socket; return whether they may go on."""
        if self._rest is not None:
            self._rest -= len(data)
            if self._rest < 0:
                self.close()
                self.cut()
        if self.closed:
            return False
        try:
            self.in_flight.take(len(data), self.unread)
        except Busy as error:
            self._close(TRY_AGAIN_LATER, error.message)
            return False
        self.unread += len(data)
        self._walk(data)
        return not self.closed

    def taken(self) -> None:
        """Count the oldest message that is complete as taken."""
        if self._whole and not self.closed:
            size = self._whole.popleft()
            self.in_flight.used -= size
            self.unread -= size

    def leave(self) -> None:
        """Take no more than what may be on its way: the connection is being closed."""
        if self._rest is None:
            self._rest = REST_BYTES

    def close(self) -> None:
        """Take no more, and give back what is booked."""
        self.closed = True
        self.in_flight.used -= self.unread
        self.unread = 0
        self.since = None

    def _walk(self, data: bytes) -> None:
        """Look at the header of every frame."""
        place = 0
        while place < len(data) and not self.closed:
            if self._payload:
                here = min(self._payload, len(data) - place)
                self._payload -= here
                place += here
                if not self._payload:
                    self._ended()
                continue
            self._header.append(data[place])
            place += 1
            if len(self._header) > 1 and len(self._header) == _header_bytes(self._header[1]):
                self._frame()
                self._first, self._frame_bytes = self._header[0], len(self._header) + self._payload
                self._header.clear()
                if not self._payload:
                    self._ended()
        if not (self._header or self._payload or self._unended) or self.closed:
            self.since = None
        elif self.since is None:
            self.since = asyncio.get_running_loop().time()

    def _frame(self) -> None:
        """Judge a frame by its header, which is complete."""
        first, second = self._header[:2]
        self._payload = second & LENGTH
        if self._payload > 125:
            self._payload = int.from_bytes(self._header[2:-4], "big")
        if not second & MASK:
            self._close(PROTOCOL_ERROR, "a frame is not masked")
        elif not first & CONTROL:
            # The headers of continuations count too: there may be a message of nothing else.
            self._message += self._payload + (0 if first & OPCODE else len(self._header))
            self._unended = not first & FIN
            if self._message > self.limit:
                self._close(TOO_BIG, f"message of more than {self.limit} bytes")
            elif not self._unended:
                self._message = 0

    def _ended(self) -> None:
        """Count a frame as complete; one of control is a message of its own, between the fragments of another."""
        if self._first & CONTROL:
            self._whole.append(self._frame_bytes)
            return
        self._fragments_bytes += self._frame_bytes
        if self._first & FIN:
            self._whole.append(self._fragments_bytes)
            self._fragments_bytes = 0

    def _close(self, code: int, reason: str) -> None:
        self.close()
        self.refuse(code, reason)


def _header_bytes(second: int) -> int:
    """Return how long a masked frame's header is."""
    return {126: 8, 127: 14}.get(second & LENGTH, 6) - (0 if second & MASK else 4)
