"""One run at a time changes what a board runs."""

from __future__ import annotations

import fcntl
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path("/run/pinch-deployment.lock")
TURN_S = 300.0
LOOK_S = 0.5


class TurnError(Exception):
    """Another run is at work; says for how long."""


@contextmanager
def turn(lock: Path = LOCK, longest_s: float = TURN_S) -> Iterator[None]:
    """Change the board alone: a run that was cut on the controller may still be at work here.

    Raises:
        TurnError: it is after `longest_s` seconds.
    """
    deadline = time.monotonic() + longest_s
    with lock.open("w", encoding="ascii") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    said = f"another run has been changing this board's release for {longest_s:.0f} s"
                    raise TurnError(f"{said}; wait for its end, and run again") from None
            time.sleep(LOOK_S)
        yield


def unwind_when_ended() -> None:
    """Let SIGTERM and SIGHUP end this process as an exception does: what it began beside the service is removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
