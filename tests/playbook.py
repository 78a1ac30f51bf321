"""Playbooks of `ansible/`, played from a test; a run can be killed in the middle, as by a closed laptop."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.cache import REPOSITORY

ANSIBLE = REPOSITORY / "ansible"
_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.*)\]", re.MULTILINE)
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class Moment(NamedTuple):
    """When to kill a run."""

    task: int
    """Number of the task that has begun, from 1."""
    seconds: float
    """How far into it."""


class Recap(NamedTuple):
    """What Ansible counted for a host."""

    ok: int
    changed: int
    unreachable: int
    failed: int


class Played(NamedTuple):
    """How a run ended."""

    status: int
    """Exit status; negative where a signal ended it."""
    said: str

    @property
    def killed(self) -> bool:
        """Whether it was killed before its own end."""
        return self.status == -signal.SIGKILL

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that began."""
        return _TASK.findall(self.said)

    @property
    def recap(self) -> dict[str, Recap]:
        """What was counted, by host; empty where the run did not come to its end."""
        counted = _RECAP.findall(self.said.partition("PLAY RECAP")[2])
        return {name: Recap(*map(int, counts)) for name, *counts in counted}

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
    kill: Moment | None = None,
) -> Played:
    """Play a playbook to its end, or until `kill`, when it gets no chance to tidy up.

    Roles in `roles` stand before the repository's own.
    """
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(book), *more]
    command += ["--extra-vars", json.dumps(dict(variables))] if variables else []
    # Molecule forces colours, and what is counted is read from plain text.
    inherited = {name: value for name, value in os.environ.items() if name not in {"ANSIBLE_FORCE_COLOR", "PY_COLORS"}}
    settings = {
        **inherited,
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": os.pathsep.join(map(str, [*roles, REPOSITORY / "roles"])),
        "ANSIBLE_NOCOLOR": "1",
        **environment,
    }
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=settings,
        start_new_session=True,
    ) as process:
        said = _follow(process, kill)
    return Played(process.returncode, said)


def _follow(process: subprocess.Popen[bytes], kill: Moment | None) -> str:
    """Return what a run prints until it ends, or is killed at its moment."""
    assert process.stdout is not None
    printed = b""
    due: float | None = None
    while True:
        left = None if due is None else max(due - time.monotonic(), 0)
        ready, _, _ = select.select([process.stdout], [], [], left)
        if not ready:
            kill_family(process.pid)
            break
        part = os.read(process.stdout.fileno(), 65536)
        if not part:
            break
        printed += part
        if kill and due is None and len(_TASK.findall(printed.decode("utf-8", "replace"))) >= kill.task:
            due, kill = time.monotonic() + kill.seconds, None
    return printed.decode("utf-8", "replace")


def kill_family(pid: int) -> None:
    """Kill a process and all that it began; Ansible's workers have sessions of their own and would go on alone."""
    first = psutil.Process(pid)
    for process in [first, *first.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def local_fleet(folder: Path, *names: str, **unreachable: bool) -> Path:
    """Write an inventory whose boards are this machine, save for those that nobody answers for; return its file."""
    hosts: dict[str, Any] = {name: {} for name in names}
    for name in unreachable:
        hosts[name] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    inventory = folder / "hosts.json"
    inventory.write_text(json.dumps({"pinch": {"hosts": hosts, "vars": here}}), "utf-8")
    return inventory
