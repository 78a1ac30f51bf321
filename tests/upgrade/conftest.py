"""A fleet of emulated boards, from as they were found to provisioned."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import testinfra

from tests.appliance import SCRATCH, Board
from tests.playbook import ANSIBLE, Played, play

ONBOARD = Path(__file__).resolve().parent.parent / "onboard"
GAPS = "pinch-gaps"
WATCHED = f"{SCRATCH}/gaps.json"
START_S = 180
"""Seconds that a start may take: a test waits as long for a release that is never ready, and a busy machine is slow."""


class Fleet:
    """Boards of one inventory; any number from one."""

    def __init__(self, inventory: Path, folder: Path) -> None:
        self.inventory = inventory
        self.folder = folder
        hosts = testinfra.get_hosts(["ansible://pinch"], ansible_inventory=str(inventory))
        self.boards = {str(host.backend.host): Board(host) for host in hosts}
        self.found: dict[str, dict[str, str]] = {}

    @property
    def canary(self) -> tuple[str, Board]:
        """The board that goes first."""
        return next(iter(self.boards.items()))

    def play(self, book: str, *more: str, **variables: Any) -> Played:
        """Play one of the fleet's playbooks."""
        wanted = {"pinch_start_timeout_s": START_S, "memory_cgroup_reboot_ok": True, **variables}
        return play(ANSIBLE / book, self.inventory, *more, variables=wanted)

    def listing(self) -> dict[str, dict[str, str]]:
        """Return what is on each board's disk."""
        return {name: board.python(ONBOARD / "found.py") for name, board in self.boards.items()}

    def released(self) -> dict[str, str]:
        """Return the release that each board's process has mapped."""
        command = "grep -om1 '/opt/pinch/releases/[^/]*' /proc/$(systemctl show -P MainPID pinch.service)/maps"
        return {name: board.run(command).rpartition("/")[2] for name, board in self.boards.items()}

    def watch(self) -> None:
        """Begin to ask each board, on the board itself, whether its service is ready."""
        for board in self.boards.values():
            script = board.push(ONBOARD / "gaps.py")
            board.run(
                f"systemctl stop {GAPS} 2>/dev/null; systemd-run --unit={GAPS} --collect "
                f"python3 -I {script} --port {board.address.port} --out {WATCHED}"
            )

    def longest_gaps(self) -> dict[str, float]:
        """End the watch; return the longest time without an answer on each board, seconds."""
        gaps = {}
        for name, board in self.boards.items():
            board.run(f"systemctl stop {GAPS}")
            gaps[name] = float(json.loads(board.run(f"cat {WATCHED}"))["longest_s"])
        return gaps


def recap(played: Played) -> Mapping[str, Any]:
    """Return what a failed run is explained by."""
    return {"status": played.status, "recap": played.recap, "said": played.said[-6000:]}


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Boards that were looked at as they were found and then provisioned."""
    inventory = request.config.getoption("--ansible-inventory")
    if not os.environ.get("EMULATOR_STATE") or not inventory:
        pytest.skip("takes boards from bare to bare: run it by `molecule test -s upgrade`, which boots them")
    fleet = Fleet(Path(inventory), tmp_path_factory.mktemp("fleet"))
    fleet.found = fleet.listing()
    played = fleet.play("site.yml")
    assert played.status == 0, recap(played)
    yield fleet
    for board in fleet.boards.values():
        board.close()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A fresh key pair: the file with the secret key, and the public one."""
    file = tmp_path_factory.mktemp("key") / "key.txt"
    subprocess.run(["age-keygen", "-o", str(file)], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", str(file)], check=True, capture_output=True, text=True).stdout.strip()
    return file, public
