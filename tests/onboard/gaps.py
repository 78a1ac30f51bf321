"""Asks the service again and again whether it is ready; keeps the longest time without a yes in a file."""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import time
from pathlib import Path
from types import FrameType

PAUSE_S = 0.2


class Ended(Exception):
    """Somebody asked for the result."""


def ready(port: int) -> bool:
    """Ask once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def end(number: int, frame: FrameType | None) -> None:
    """Leave the loop."""
    raise Ended


def main() -> None:
    """Ask until ended, then write the longest gap and how often was asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, end)
    longest, asked, last = 0.0, 0, time.monotonic()
    try:
        while True:
            answered = ready(options.port)
            now = time.monotonic()
            asked += 1
            # The time until an answer counts: a client would have waited for it.
            longest = max(longest, now - last)
            if answered:
                last = now
            time.sleep(PAUSE_S)
    except Ended:
        longest = max(longest, time.monotonic() - last)
        options.out.write_text(json.dumps({"longest_s": round(longest, 2), "asked": asked}), "utf-8")


if __name__ == "__main__":
    main()
