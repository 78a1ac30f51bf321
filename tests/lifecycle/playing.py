"""Playbooks of the fleet's verbs, played from a test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.cache import REPOSITORY

ANSIBLE = REPOSITORY / "ansible"
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class Recap(NamedTuple):
    """What Ansible counted for a host."""

    ok: int
    changed: int
    unreachable: int
    failed: int


class Played(NamedTuple):
    """A playbook's end."""

    status: int
    said: str
    recap: dict[str, Recap]

    @property
    def changed(self) -> int:
        """Tasks that changed something, on all hosts."""
        return sum(host.changed for host in self.recap.values())

    @property
    def words(self) -> str:
        """What was said, in one line: Ansible wraps its messages."""
        return " ".join(self.said.split())


def play(
    book: Path,
    inventory: Path,
    *more: str,
    variables: Mapping[str, Any] = {},
    roles: Sequence[Path] = (),
    environment: Mapping[str, str] = {},
) -> Played:
    """Play a playbook; roles in `roles` stand before the repository's own."""
    path = os.pathsep.join(map(str, [*roles, REPOSITORY / "roles"]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(book), *more]
    command += ["--extra-vars", json.dumps(dict(variables))] if variables else []
    settings = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": path,
        "ANSIBLE_NOCOLOR": "1",
        **environment,
    }
    done = subprocess.run(command, env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    said = done.stdout + done.stderr
    recap = {name: Recap(*map(int, counts)) for name, *counts in _RECAP.findall(said.partition("PLAY RECAP")[2])}
    return Played(done.returncode, said, recap)


def local_fleet(folder: Path, *names: str, **unreachable: bool) -> Path:
    """Write an inventory whose boards are this machine, save for those that nobody answers for; return its file."""
    hosts: dict[str, Any] = {name: {} for name in names}
    for name in unreachable:
        hosts[name] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"pinch": {"hosts": hosts, "vars": here}}), "utf-8")
    return inventory
