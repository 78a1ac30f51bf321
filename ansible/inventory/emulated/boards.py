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
    boards = running()
    if not boards:
        names = ", ".join(tomllib.loads((IMAGE / "boards.toml").read_text("utf-8")))
        print(f"no emulated board is on; start one with `image/emulator up` and one of {names}", file=sys.stderr)
    print(json.dumps(inventory(boards), indent=1))
    return 0


def running() -> list[dict[str, Any]]:
    """Return what the emulator says about the boards that are on."""
    state = os.environ.get("EMULATOR_STATE")
    where = ["--state", state] if state else []
    command = [sys.executable, str(IMAGE / "emulator"), "status", "--json", *where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"image/emulator status: {done.stderr.strip()}")
    boards: list[dict[str, Any]] = json.loads(done.stdout)
    return boards


def inventory(boards: list[dict[str, Any]]) -> dict[str, Any]:
    """Return Ansible's inventory of `boards`.

    A board makes its host key at its first boot and keeps it for as long as its disk: the first key
    seen is taken, another one later is refused. Nobody works on an emulated board, so roles may reboot it.
    """
    hosts = {
        board["board"]: {
            "ansible_host": board["host"],
            "ansible_port": board["port"],
            "ansible_user": board["user"],
            "ansible_ssh_private_key_file": board["key"],
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={board['known_hosts']} {SSH}",
            "memory_cgroup_reboot_ok": True,
        }
        for board in boards
    }
    return {"pinch": {"hosts": sorted(hosts)}, "_meta": {"hostvars": hosts}}


if __name__ == "__main__":
    sys.exit(main())
