"""Start to first recall, against nothing but the imports of the service's third-party modules.

Runs on the board as well as on the controller, with the standard library alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
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
LOOK_S = 0.02
"""Seconds between two looks at whether the service listens."""


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


def await_port(host: str, port: int) -> None:
    """Wait until something listens; a look is a bare connect, so that waiting takes no time from what is measured."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(LOOK_S)
    raise SystemExit(f"nothing listens on {host}:{port} after {WAIT_S:g} s")


def first_recall(address: str, token: str, start: Callable[[], float]) -> float:
    """Return the seconds to the first recall answered, from the moment by the monotonic clock that `start` returns."""
    host, _, port = address.rpartition(":")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"query": "first", "mode": "keyword"})
    begin = start()
    await_port(host, int(port))
    connection = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
    connection.request("POST", "/v1/recall", body, headers)
    answer = connection.getresponse()
    ended = time.monotonic()
    if answer.status != 200:
        raise SystemExit(f"the first recall was answered {answer.status}: {answer.read()[:200]!r}")
    connection.close()
    return ended - begin


def start_unit(unit: str) -> float:
    """Start a unit and return when systemd began to, by the monotonic clock; the client's own start is not counted."""
    asked = time.monotonic()
    subprocess.run(["systemctl", "start", "--no-block", unit], check=True)
    shown = ["systemctl", "show", unit, "--property", "InactiveExitTimestampMonotonic", "--value"]
    while time.monotonic() - asked < WAIT_S:
        moment = int(subprocess.run(shown, capture_output=True, text=True, check=True).stdout) / 1e6
        if moment > asked:
            return moment
        time.sleep(LOOK_S)
    raise SystemExit(f"systemd did not begin to start {unit} within {WAIT_S:g} s")


def first_token(file: Path) -> str:
    """Return the first token of a token file."""
    lines = file.read_text("utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.strip() and not line.startswith("#"))


def compare(python: list[str], measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, Any]:
    """Take bare imports and `measures` in turns and return the median seconds of each, by name.

    The first round warms the page cache and does not count.
    """
    names = modules(python)
    everything = {"imports": lambda: bare_imports(python, names), **measures}
    taken: dict[str, list[float]] = {name: [] for name in everything}
    for turn in range(rounds + 1):
        for name, measure in everything.items():
            seconds = measure()
            if turn:
                taken[name].append(seconds)
    return {"modules": len(names), **{name: round(statistics.median(found), 3) for name, found in taken.items()}}


class Board:
    """A provisioned board: its unit, and the same release started by hand."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.address: str = options.address
        self.unit: str = options.unit
        self.release: Path = options.release
        self.state: Path = options.state
        self.tokens: Path = options.tokens
        self.token = first_token(options.tokens)

    def by_systemd(self) -> float:
        """Return the seconds from the unit's start to the first recall; systemd's own work, the sandbox, is in them."""
        subprocess.run(["systemctl", "stop", self.unit], check=True)
        return first_recall(self.address, self.token, lambda: start_unit(self.unit))

    def by_hand(self) -> float:
        """Return the seconds from the process' start, over the same store and as the same user, to the first recall."""
        subprocess.run(["systemctl", "stop", self.unit], check=True)
        owner = self.state.owner()
        with tempfile.TemporaryDirectory() as folder:
            tokens = Path(shutil.copy(self.tokens, folder))
            for path in (Path(folder), tokens):
                shutil.chown(path, owner)
            environment = {"PINCH_STATE_DIR": str(self.state), "PINCH_TOKENS_FILE": str(tokens), "TMPDIR": folder}
            running: list[subprocess.Popen[bytes]] = []

            def start() -> float:
                moment = time.monotonic()
                command = [str(self.release / "bin" / "pinch"), "serve"]
                running.append(
                    subprocess.Popen(command, user=owner, env=environment, stderr=subprocess.DEVNULL, cwd="/")
                )
                return moment

            try:
                return first_recall(self.address, self.token, start)
            finally:
                for process in running:
                    process.terminate()
                    process.wait(60)


def main() -> None:
    """Compare on a board and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--tokens", required=True, type=Path)
    parser.add_argument("--unit", required=True)
    parser.add_argument("--release", required=True, type=Path, help="folder with bin/pinch and lib/")
    parser.add_argument("--state", required=True, type=Path, help="the service's state folder")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    board = Board(options)
    python = ["/usr/bin/env", f"PYTHONPATH={options.release / 'lib'}", "python3"]
    found = compare(python, {"process": board.by_hand, "unit": board.by_systemd}, options.rounds)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
