"""A playbook's run that can be killed in the middle, as by a closed laptop."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import time
from typing import Any, NamedTuple

from tests.cache import REPOSITORY

_TASK = re.compile(rb"^(?:TASK|RUNNING HANDLER) \[(.*)\]", re.MULTILINE)
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class Moment(NamedTuple):
    """When to kill a run."""

    task: int
    """Number of the task that has begun, from 1."""
    seconds: float
    """How far into it."""


class Ended(NamedTuple):
    """How a run ended."""

    status: int
    """Exit status; negative where a signal ended it."""
    tasks: list[str]
    """Names of the tasks that began."""
    printed: str

    @property
    def killed(self) -> bool:
        """Whether it was killed before its own end."""
        return self.status == -signal.SIGKILL

    @property
    def changed(self) -> dict[str, int]:
        """Changed tasks by host, from the recap."""
        return {host: int(changed) for host, _, changed, _, _ in _RECAP.findall(self.printed)}


class Playbook(NamedTuple):
    """A playbook of `ansible/` and the inventory it runs on."""

    name: str
    inventory: str

    def run(self, variables: dict[str, Any] | None = None, kill: Moment | None = None, *, check: bool = False) -> Ended:
        """Run it to its end, or until `kill`, when it gets no chance to tidy up; with `check` in check mode."""
        command = ["ansible-playbook", "-i", self.inventory, str(REPOSITORY / "ansible" / self.name)]
        command += ["-e", json.dumps(variables or {}), *(["--check"] if check else [])]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible/ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            printed = b""
            due: float | None = None
            while True:
                left = None if due is None else max(due - time.monotonic(), 0)
                ready, _, _ = select.select([process.stdout], [], [], left)
                if not ready:
                    os.killpg(process.pid, signal.SIGKILL)
                    break
                part = os.read(process.stdout.fileno(), 65536)
                if not part:
                    break
                printed += part
                if kill and due is None and len(_TASK.findall(printed)) >= kill.task:
                    due, kill = time.monotonic() + kill.seconds, None
        tasks = [name.decode("utf-8", "replace") for name in _TASK.findall(printed)]
        return Ended(process.returncode, tasks, printed.decode("utf-8", "replace"))
