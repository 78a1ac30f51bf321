"""A systemd unit of this board: what systemd and the kernel say of it, and its start."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

GROUPS = Path("/sys/fs/cgroup")
THREADS = "%s/task/*/stat"
PROPERTIES = "LoadState,ActiveState,SubState,StatusText,MainPID,ControlGroup,InvocationID,UnitFileState"
ENDED = frozenset({"auto-restart", "auto-restart-queued", "failed", "dead"})
"""What systemd calls a unit whose process is gone."""
WAITING = "waiting for the store"
"""How the status of a service begins that another one keeps from its store; `pinch.app` says so."""


class Running(NamedTuple):
    """A unit as it is now."""

    loaded: bool
    enabled: bool
    active: bool
    ended: bool
    """Whether its process is gone, though systemd may start it again."""
    waits: bool
    """Whether it has loaded everything and waits until another service lets go of the store."""
    invocation: str
    """Another with each start; until systemd has begun one, a look still shows what was before it."""
    begun: bool
    """Whether it was started at all since the board booted."""
    release: str
    """Release that the process runs from, empty where it is none of ours."""
    deployment: str
    """DEPLOYMENT in the process's environment."""
    memory_max: int
    """Bytes that the kernel lets it have, 0 where it sets no limit."""


def look(unit: str, home: Path) -> Running:
    """Return what `unit` is now; releases stand below `home`."""
    shown = properties(unit)
    pid = int(shown.get("MainPID") or 0)
    return Running(
        loaded=shown.get("LoadState") == "loaded",
        enabled=shown.get("UnitFileState") == "enabled",
        active=shown.get("ActiveState") == "active",
        ended=shown.get("SubState") in ENDED,
        waits=shown.get("ActiveState") == "activating" and shown.get("StatusText", "").startswith(WAITING),
        invocation=shown.get("InvocationID", ""),
        begun=bool(shown.get("InvocationID")),
        release=held_release(pid, home),
        deployment=environment(pid).get("DEPLOYMENT", ""),
        memory_max=memory_max(shown.get("ControlGroup", "")),
    )


def properties(unit: str) -> dict[str, str]:
    """Return what systemd says about `unit`."""
    done = subprocess.run(
        ["systemctl", "show", unit, "--property", PROPERTIES], capture_output=True, text=True, check=False
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def environment(pid: int) -> dict[str, str]:
    """Return the environment that process `pid` was started with; none where there is no such process."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes() if pid else b""
    except OSError:
        return {}
    pairs = (part.decode("utf-8", "replace").partition("=") for part in raw.split(b"\0"))
    return {name: value for name, separator, value in pairs if separator}


def held_release(pid: int, home: Path) -> str:
    """Return the release below `home` that process `pid` runs from, empty where it is none.

    The libraries of its wheels are mapped; one without wheels is known by its program, which it holds open.
    """
    process = Path(f"/proc/{pid}")
    try:
        held = [process.joinpath("maps").read_text("utf-8", "surrogateescape")] if pid else []
        held += [_target(path) for path in process.joinpath("fd").iterdir()] if pid else []
    except OSError:
        return ""
    found = re.search(rf"(?:^| ){re.escape(str(home))}/releases/([^/\n]+)/", "\n".join(held), re.MULTILINE)
    return found[1] if found else ""


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        # Closed since it was listed.
        return ""


def memory_max(control_group: str) -> int:
    """Return the hard limit in bytes that the kernel enforces on a control group, 0 where it enforces none."""
    path = GROUPS / control_group.lstrip("/") / "memory.max"
    try:
        text = path.read_text("ascii").strip() if control_group else "max"
    except OSError:
        return 0
    return 0 if text == "max" else int(text)


class Start:
    """A start that systemd was asked for; nothing but files is read while it lasts, for that costs it no time."""

    def __init__(self, unit: str) -> None:
        self.after = properties(unit).get("InvocationID", "")
        """Invocation of the unit that it follows."""
        self._group = GROUPS / "system.slice" / unit
        command = ["systemctl", "restart", unit]
        self._asked = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def succeeded(self) -> bool | None:
        """Whether the service said that it is ready; None while that is open, and where it was left."""
        status = self._asked.poll()
        return None if status is None or status < 0 else status == 0

    @property
    def worked_us(self) -> int | None:
        """Processor time of the control group in microseconds, None where it is not known; it begins anew with it."""
        try:
            return int((self._group / "cpu.stat").read_text("ascii").split()[1])
        except OSError:
            return None

    @property
    def waits_for_disk(self) -> bool:
        """Whether a thread is in a wait that only the kernel ends, as for the card or for swap."""
        try:
            pids = (self._group / "cgroup.procs").read_text("ascii").split()
            stats = [file.read_text("utf-8", "replace") for pid in pids for file in Path("/proc").glob(THREADS % pid)]
        except OSError:
            return False
        return any(text.rpartition(")")[2].split()[0] == "D" for text in stats)

    def leave(self) -> None:
        """Wait for its end no longer."""
        self._asked.kill()
        self._asked.wait()
