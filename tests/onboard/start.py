"""Start to first recall, against nothing but the imports of the service's third-party modules.

Runs on the board as well as on the controller, with the standard library alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIST = """
import json, sys
before = set(sys.modules)
import pinch.app
names = set(sys.modules) - before
known = set(sys.stdlib_module_names)
print(json.dumps(sorted(n for n in names if n.partition(".")[0] not in known | {"pinch"} and not n.startswith("_"))))
"""
"""Prints the third-party modules that the service's composition root imports."""
WAIT_S = 120.0


def modules(python: list[str]) -> list[str]:
    """Return the third-party modules that the service imports when it starts."""
    done = subprocess.run([*python, "-c", LIST], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def bare_imports(python: list[str], names: list[str]) -> float:
    """Return the seconds of a Python that imports these modules and ends."""
    begin = time.perf_counter()
    subprocess.run([*python, "-c", "\n".join(f"import {name}" for name in names)], check=True)
    return time.perf_counter() - begin


def first_recall(address: str, token: str, start: Callable[[], object]) -> float:
    """Return the seconds from calling `start` to the first recall answered."""
    host, _, port = address.rpartition(":")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"query": "first", "mode": "keyword"})
    begin = time.perf_counter()
    start()
    while time.perf_counter() - begin < WAIT_S:
        connection = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
        try:
            connection.request("POST", "/v1/recall", body, headers)
            if connection.getresponse().status == 200:
                return time.perf_counter() - begin
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.005)
    raise SystemExit(f"no recall was answered within {WAIT_S:g} s")


def compare(python: list[str], measure: Callable[[], float], rounds: int) -> dict[str, Any]:
    """Measure both in turns and return seconds; the first round warms the page cache and does not count."""
    names = modules(python)
    imports, starts = [], []
    for turn in range(rounds + 1):
        once = bare_imports(python, names), measure()
        if turn:
            imports.append(once[0])
            starts.append(once[1])
    return {
        "modules": len(names),
        "imports_s": round(statistics.median(imports), 3),
        "first_recall_s": round(statistics.median(starts), 3),
        "ratio": round(statistics.median(starts) / statistics.median(imports), 3),
    }


def main() -> None:
    """Compare on a board and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--tokens", required=True, type=Path)
    parser.add_argument("--unit", required=True)
    parser.add_argument("--packages", required=True, help="folder of the release's packages")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    lines = options.tokens.read_text("utf-8").splitlines()
    token = next(line.split()[1] for line in lines if line.strip() and not line.startswith("#"))
    python = ["/usr/bin/env", f"PYTHONPATH={options.packages}", "python3"]

    def measure() -> float:
        subprocess.run(["systemctl", "stop", options.unit], check=True)
        return first_recall(
            options.address,
            token,
            lambda: subprocess.run(["systemctl", "start", "--no-block", options.unit], check=True),
        )

    json.dump(compare(python, measure, options.rounds), sys.stdout)


if __name__ == "__main__":
    main()
