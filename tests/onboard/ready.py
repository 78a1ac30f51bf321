"""Waits on the board until the service says it is ready; prints how long that took, as JSON."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time


def ready(port: int) -> bool:
    """Ask once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    """Wait; exit with 1 where the time runs out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--timeout", type=float, required=True, help="seconds")
    options = parser.parse_args()
    begin = time.monotonic()
    while not ready(options.port):
        if time.monotonic() - begin > options.timeout:
            sys.exit(f"the service was not ready within {options.timeout:g} s")
        time.sleep(0.1)
    print(json.dumps({"seconds": round(time.monotonic() - begin, 2)}))


if __name__ == "__main__":
    main()
