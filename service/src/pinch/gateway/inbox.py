"""What has come of a WebSocket message that is not complete: counted from the socket, before it is anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pinch.errors import Busy
from pinch.gateway.reading import InFlight

HEADER_BYTES = 14
"""Longest header of a client's frame (RFC 6455, section 5.2)."""
SLACK_BYTES = 1024
"""Less than this is left over from the headers of fragments."""
TOO_BIG = 1009
TRY_AGAIN_LATER = 1013


class Inbox:
    """The bytes of one connection's unfinished message, booked with those of all the others."""

    def __init__(self, in_flight: InFlight, limit: int, refuse: Callable[[int, str], None]) -> None:
        self.in_flight = in_flight
        self.limit = limit
        """Bytes on the wire that one message may have."""
        self.refuse = refuse
        """Called once, with a close code and a reason, when no more is taken."""
        self.unread = 0
        self.since: float | None = None
        """Loop time at which the unfinished message began; None where there is none."""
        self.closed = False

    def arrived(self, size: int) -> bool:
        """Count bytes from the socket; return whether they may go on."""
        if self.closed or not size:
            return not self.closed
        try:
            self.in_flight.take(size, self.unread)
        except Busy as error:
            self._close(TRY_AGAIN_LATER, error.message)
            return False
        if not self.unread:
            self.since = asyncio.get_running_loop().time()
        self.unread += size
        if self.unread > self.limit:
            self._close(TOO_BIG, f"message of more than {self.limit} bytes")
            return False
        return True

    def taken(self, size: int) -> None:
        """Count a message of `size` bytes as complete."""
        left = self.unread - size - HEADER_BYTES
        if left < SLACK_BYTES:
            left = 0
        self.in_flight.used -= self.unread - left
        self.unread = left
        self.since = asyncio.get_running_loop().time() if left else None

    def close(self) -> None:
        """Take no more, and give back what is booked."""
        self.closed = True
        self.in_flight.used -= self.unread
        self.unread = 0
        self.since = None

    def _close(self, code: int, reason: str) -> None:
        self.close()
        self.refuse(code, reason)
