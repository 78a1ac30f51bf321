"""`python -m tests.benchmarks.provision [BOARD]`: how long `site.yml` takes onto a fresh emulated board.

What the controller builds and downloads once is there already; the board boots before the clock starts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time

from tests.benchmarks.machine import machine
from tests.cache import REPOSITORY
from tests.playbook import ANSIBLE, Played, play

EMULATOR = REPOSITORY / "image" / "emulator"
INVENTORY = ANSIBLE / "inventory" / "emulated"
MOST_S = 360
BOARD = {"ansible_become": True, "memory_cgroup_reboot_ok": True}


def main() -> int:
    """Print the wall time of a first and of a second run; return 1 where the first is over the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("board", nargs="?", default="zero2w")
    board = parser.parse_args().board
    print(f"machine: {machine()}")
    with tempfile.TemporaryDirectory(prefix="pinch-") as folder:
        os.environ["EMULATOR_STATE"] = folder
        booted = emulator("up", board, folder)
        try:
            warm()
            first, seconds = timed()
            again, more = timed()
        finally:
            emulator("down", board, folder)
    print(f"board: {board}, {booted}")
    print(f"site.yml onto the fresh board: {seconds:.0f} s, {len(first.tasks)} tasks (expected under {MOST_S} s)")
    print(f"again, {again.changed} changed: {more:.0f} s, {len(again.tasks)} tasks")
    return int(seconds >= MOST_S)


def warm() -> None:
    """Let the controller build what it would build in a run: check mode changes no board."""
    ended = play(ANSIBLE / "site.yml", INVENTORY, "--check", variables=BOARD)
    if ended.status:
        raise SystemExit(ended.said)


def timed() -> tuple[Played, float]:
    """Return how a run ended and the seconds it took; a failed one ends the benchmark."""
    begun = time.monotonic()
    ended = play(ANSIBLE / "site.yml", INVENTORY, variables=BOARD)
    if ended.status:
        raise SystemExit(ended.said)
    return ended, time.monotonic() - begun


def emulator(verb: str, board: str, state: str) -> str:
    """Have the emulator do something and return what it says."""
    command = [str(EMULATOR), verb, board, "--state", state]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
