#!/usr/bin/env python3
"""Ansible inventory: the emulated boards that are on.

`EMULATOR_STATE` names the folder that `image/emulator --state` was given, where it was given one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

SSH = "-o StrictHostKeyChecking=accept-new -o IdentitiesOnly=yes"
IMAGE = Path(__file__).resolve().parents[3] / "image"


def main() -> int:
    """Print the inventory; an inventory without a board says on standard error how to get one."""
    names = tomllib.loads((IMAGE / "boards.toml").read_text("utf-8"))
    boards = [board for name in names if (board := status(name))["running"]]
    if not boards:
        print(
            f"no emulated board is on; start one with `image/emulator up` and one of {', '.join(names)}",
            file=sys.stderr,
        )
    print(json.dumps(inventory(boards), indent=1))
    return 0


def status(name: str) -> dict[str, Any]:
    """Return what the emulator says about the board `name`."""
    state = os.environ.get("EMULATOR_STATE")
    where = ["--state", state] if state else []
    command = [sys.executable, str(IMAGE / "emulator"), "status", name, "--json", *where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"image/emulator status {name}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def inventory(boards: list[dict[str, Any]]) -> dict[str, Any]:
    """Return Ansible's inventory of `boards`.

    A board makes its host key at its first boot and keeps it for as long as its disk: the first key
    seen is taken, another one later is refused.
    """
    hosts = {
        board["board"]: {
            "ansible_host": board["host"],
            "ansible_port": board["port"],
            "ansible_user": board["user"],
            "ansible_ssh_private_key_file": board["key"],
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={board['known_hosts']} {SSH}",
        }
        for board in boards
    }
    return {"pinch": {"hosts": sorted(hosts)}, "_meta": {"hostvars": hosts}}


if __name__ == "__main__":
    sys.exit(main())
