"""A board whose swap is changed over and over, and the one who watches it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from testinfra.host import Host

from tests.appliance import SCRATCH, Board

HERE = Path(__file__).resolve().parent
ONBOARD = HERE.parent / "onboard"
SEEN = f"{SCRATCH}/swap-seen.json"
WATCHER = "pinch-swap-watch"
RECAP = re.compile(r"changed=(\d+) .*?failed=(\d+)")


class Played(NamedTuple):
    """What a run of the playbook came to."""

    changed: int
    printed: str
    seconds: float


@pytest.fixture(scope="module")
def board(host: Host) -> Iterator[Board]:
    """A board that may have no service yet."""
    board = Board(host)
    yield board
    board.close()


def ours(board: Board) -> dict[str, str]:
    """Return what is on the board's disk under a name of ours."""
    listed: dict[str, str] = board.python(ONBOARD / "found.py")
    return {path: word for path, word in listed.items() if "pinch" in path}


@pytest.fixture(scope="module", autouse=True)
def found(board: Board) -> dict[str, str]:
    """What there was under such a name before anything was changed."""
    return ours(board)


@pytest.fixture(scope="module")
def play(host: Host, request: pytest.FixtureRequest) -> Callable[..., Played]:
    """Run the roles with variables of one's own."""

    def run(**variables: Any) -> Played:
        inventory = request.config.getoption("ansible_inventory")
        where = ["-i", str(inventory)] if inventory else []
        name = str(host.backend.get_hostname())
        begin = time.monotonic()
        done = subprocess.run(
            ["ansible-playbook", *where, str(HERE / "swap.yml"), "-l", name, "-e", json.dumps(variables)],
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, file=sys.stderr)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        found = RECAP.search(done.stdout)
        assert found is not None, done.stdout
        return Played(int(found[1]), done.stdout, time.monotonic() - begin)

    return run


class Watcher:
    """The process on the board that sees every change of `/proc/swaps`."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def start(self) -> None:
        """Begin anew."""
        script = self._board.push(ONBOARD / "swapwatch.py")
        self._board.run(
            f"systemctl stop {WATCHER} 2>/dev/null; rm -f {SEEN}; "
            f"systemd-run --quiet --collect --unit={WATCHER} --property=Nice=-5 python3 -I {script} {SEEN}; "
            f"until test -e {SEEN}; do sleep 0.2; done"
        )

    def seen(self) -> dict[str, Any]:
        """Return what it saw so far.

        Raises:
            BoardError: it does not run any more.
        """
        printed: dict[str, Any] = json.loads(self._board.run(f"systemctl is-active -q {WATCHER} && cat {SEEN}"))
        return printed


@pytest.fixture(scope="module")
def watcher(board: Board) -> Iterator[Watcher]:
    """A watcher at work."""
    watcher = Watcher(board)
    watcher.start()
    yield watcher
    board.attempt(f"systemctl stop {WATCHER}; rm -rf {SCRATCH}")
