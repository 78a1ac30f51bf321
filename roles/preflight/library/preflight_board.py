#!/usr/bin/python
"""Ansible module: what a board is and has, read in one go without changing anything."""

from __future__ import annotations

import os
import platform
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_swap.layout import read
from ansible.module_utils.pinch_swap.record import RecordError
from ansible.module_utils.pinch_swap.state import facts, meminfo, read_state
from ansible.module_utils.pinch_swap.wanted import swap_file_of

DOCUMENTATION = r"""
module: preflight_board
short_description: Read what a board is and has
description:
  - Reads memory, system, interpreter, cgroup, swap, disks, clock and packages of a board in one
    remote call, because on an emulated board each call costs seconds.
options:
  packages:
    description: Debian packages whose presence is asked for.
    type: list
    elements: str
    default: []
  paths:
    description: Folders whose free bytes are asked for; one that does not exist is judged by its parent.
    type: list
    elements: str
    default: []
  swap_mechanism:
    description: How the board is to swap, which says what file is asked for.
    type: str
    default: none
  swap_file:
    description: Swap file of the mechanisms C(file) and C(zswap).
    type: str
    default: ""
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Read the board
  preflight_board:
    packages: [zstd]
    paths: [/opt]
"""
RETURN = r"""
board:
  description: The facts, sizes in bytes.
  returned: always
  type: dict
"""

CMDLINES = ("boot/firmware/cmdline.txt", "boot/cmdline.txt")
"""Since Raspberry Pi OS bookworm, and before."""


def system(root: Path = Path("/")) -> dict[str, str]:
    """Return `/etc/os-release`, and the board's model where the firmware names it."""
    values = {}
    for line in read(root / "etc/os-release").splitlines():
        name, separator, value = line.partition("=")
        if separator:
            values[name.strip().lower()] = value.strip().strip("\"'")
    return {
        "id": values.get("id", "unknown"),
        "version_id": values.get("version_id", ""),
        "pretty_name": values.get("pretty_name", "an unknown system"),
        "raspberry_pi_os": "yes" if (root / "etc/rpi-issue").exists() else "no",
        "model": read(root / "proc/device-tree/model").rstrip("\0\n"),
    }


def cgroup(root: Path = Path("/")) -> dict[str, Any]:
    """Say which controllers are live and whether pressure can be read.

    `/proc/cgroups` is not asked: a kernel without the version 1 interface leaves memory out of it
    even where the controller works.
    """
    controllers = root / "sys/fs/cgroup/cgroup.controllers"
    return {
        "unified": controllers.exists(),
        "memory": "memory" in read(controllers).split(),
        "psi": bool(read(root / "proc/pressure/memory")),
    }


def boot(root: Path = Path("/")) -> dict[str, Any]:
    """Return the command line that a Pi's firmware reads, if any, whether it can be changed, and the booted one."""
    path = next((root / name for name in CMDLINES if (root / name).is_file()), None)
    status = os.statvfs(path.parent) if path else None
    return {
        "path": str(path or ""),
        "text": read(path) if path else "",
        "read_only": bool(status and status.f_flag & os.ST_RDONLY),
        "free_bytes": status.f_bavail * status.f_frsize if status else 0,
        "booted": read(root / "proc/cmdline"),
    }


def tmpfs_in_use(mounts: str) -> int:
    """Return the bytes that files on tmpfs hold; they are RAM that no service's limit covers."""
    used = 0
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split()
        if kind == "tmpfs":
            try:
                status = os.statvfs(point.encode().decode("unicode_escape"))
            except OSError:
                continue
            used += (status.f_blocks - status.f_bfree) * status.f_frsize
    return used


def free_bytes(path: str) -> int:
    """Return the bytes an installation may still write at `path`, or at its nearest existing parent."""
    where = Path(path)
    while not where.exists():
        where = where.parent
    status = os.statvfs(where)
    return status.f_bavail * status.f_frsize


def installed(packages: list[str]) -> dict[str, bool]:
    """Say for each Debian package whether it is installed; none is where there is no dpkg."""
    found = dict.fromkeys(packages, False)
    if packages:
        command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return found
        for line in done.stdout.splitlines():
            name, _, status = line.partition(" ")
            found[name] = found.get(name, False) or status == "installed"
    return found


def architecture() -> str:
    """Return Debian's name for what the programs of this system are built for, empty where there is no dpkg."""
    try:
        done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def systemd_version() -> int:
    """Return systemd's version, 0 where the board was not started by systemd."""
    if not Path("/run/systemd/system").is_dir():
        return 0
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def main() -> None:
    """Collect and return."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "paths": {"type": "list", "elements": "str", "default": []},
            "swap_mechanism": {"type": "str", "default": "none"},
            "swap_file": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    root = Path("/")
    memory = meminfo(root)
    try:
        swap = read_state(root, swap_file_of(module.params["swap_mechanism"], module.params["swap_file"], root))
    except RecordError as error:
        module.fail_json(msg=str(error))
    board = {
        "memory_bytes": memory["MemTotal"],
        "available_bytes": memory.get("MemAvailable", 0),
        "machine": platform.machine(),
        "architecture": architecture(),
        "userland_bits": struct.calcsize("P") * 8,
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "system": system(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "systemd": systemd_version(),
        "cgroup": cgroup(),
        "boot": boot(),
        "swap": facts(swap),
        "tmpfs_bytes": tmpfs_in_use(read(Path("/proc/mounts"))),
        "free_bytes": {path: free_bytes(path) for path in module.params["paths"]},
        "clock": int(time.time()),
        "packages": installed(module.params["packages"]),
        "root": os.geteuid() == 0,
    }
    module.exit_json(changed=False, board=board)


if __name__ == "__main__":
    main()
