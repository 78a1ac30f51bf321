"""The service's unit on this board: what systemd, the kernel and the journal say of it."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils import pinch_beside
from ansible.module_utils.pinch_files import place, point
from ansible.module_utils.pinch_generations import Generation
from ansible.module_utils.pinch_service import Service, address, first_token

SETTINGS = "/etc/pinch/pinch.toml"
TOKENS = Path("/etc/pinch/tokens")
UNITS = "/etc/systemd/system/"
GROUPS = Path("/sys/fs/cgroup")
THREADS = "%s/task/*/stat"
PROPERTIES = "LoadState,ActiveState,SubState,StatusText,MainPID,ControlGroup,InvocationID,UnitFileState"
ENDED = frozenset({"auto-restart", "auto-restart-queued", "failed", "dead"})
"""What systemd calls a unit whose process is gone."""
WAITS = "waiting for the store"
"""How the status of a service begins that another one keeps from its store."""
DEPLOYMENT = "/etc/pinch/deployment.env"
MODEL = "PINCH_MODEL_DIR="
SUCCESSOR = "pinch-successor.service"
"""Unit of a release that takes over, while the service's own unit changes."""
JOURNAL_LINES = 30
COMMAND_S = 120


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


class Board:
    """The board, to be asked and to be changed."""

    def __init__(self, home: Path, launcher: Path, models: Path, unit: str) -> None:
        self.home = home
        self.launcher = launcher
        self.models = models
        self.unit = unit

    def running(self) -> Running:
        """Look at the unit."""
        shown = properties(self.unit)
        pid = int(shown.get("MainPID") or 0)
        return Running(
            loaded=shown.get("LoadState") == "loaded",
            enabled=shown.get("UnitFileState") == "enabled",
            active=shown.get("ActiveState") == "active",
            ended=shown.get("SubState") in ENDED,
            waits=shown.get("ActiveState") == "activating" and shown.get("StatusText", "").startswith(WAITS),
            invocation=shown.get("InvocationID", ""),
            begun=bool(shown.get("InvocationID")),
            release=held_release(pid, self.home),
            deployment=environment(pid).get("DEPLOYMENT", ""),
            memory_max=memory_max(shown.get("ControlGroup", "")),
        )

    def linked(self) -> str:
        """Return the release that the link `current` names, empty where there is none."""
        current = self.home / "current"
        return current.readlink().name if current.is_symlink() else ""

    def model(self) -> str:
        """Return the model that the service would load, empty where there is none."""
        current = self.models / "current"
        return str(current.readlink()) if current.is_symlink() else ""

    def launched(self) -> bool:
        """Whether the command on the search path is the one of the current release."""
        return self.launcher.is_symlink() and str(self.launcher.readlink()) == self._command

    @property
    def _command(self) -> str:
        return str(self.home / "current" / "bin" / "pinch")

    def texts(self, paths: Mapping[str, str]) -> dict[str, str]:
        """Return the texts of those of `paths` that exist."""
        return {name: Path(name).read_text("utf-8", "surrogateescape") for name in paths if Path(name).is_file()}

    def differing(self, files: Mapping[str, str]) -> list[str]:
        """Return the paths whose text or permissions are others than wanted."""
        found = self.texts(files)
        drifted = {name for name in found if Path(name).stat().st_mode & 0o7777 != 0o644}
        return [name for name, text in files.items() if found.get(name) != text or name in drifted]

    def install(self, release: str, files: Mapping[str, str], drop: set[str], model: str) -> None:
        """Put settings and units of a release in place, remove those in `drop`, and let the links name it.

        Units come first: who finds DEPLOYMENT in a process may conclude that systemd knew the unit of then.
        """
        units = [name for name in files if name.startswith(UNITS)]
        different = self.differing(files)
        for name in different:
            if name in units:
                place(Path(name), files[name])
        for name in drop:
            Path(name).unlink(missing_ok=True)
        if not set(units).isdisjoint(different) or any(name.startswith(UNITS) for name in drop):
            self._systemctl("daemon-reload")
        for name in different:
            if name not in units:
                place(Path(name), files[name])
        if model and (self.models / model).is_dir():
            point(self.models / "current", model)
        point(self.home / "current", f"releases/{release}")
        point(self.launcher, self._command)

    def refresh(self, files: Iterable[str]) -> None:
        """Let systemd read those of `files` that are units and changed since it did, as where a run was cut."""
        units = [Path(name).name for name in files if name.startswith(UNITS)]
        command = ["systemctl", "show", "--property=NeedDaemonReload", *units]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "NeedDaemonReload=yes" in done.stdout.splitlines():
            self._systemctl("daemon-reload")

    def kill(self) -> None:
        """End what runs and give it no time; systemd will start it again, a second later at the earliest."""
        command = ["systemctl", "kill", "--signal=SIGKILL", self.unit]
        subprocess.run(command, capture_output=True, text=True, check=False)

    def stop(self) -> None:
        """End what runs and wait until it has ended."""
        subprocess.run(["systemctl", "stop", self.unit], capture_output=True, text=True, check=False)

    def successor(self, wanted: Generation) -> Board:
        """Lay out the unit that serves while this one changes, as it runs with `wanted`; return it, not started yet."""
        pinch_beside.lay_out(SUCCESSOR, self.successor_texts(wanted))
        return Board(self.home, self.launcher, self.models, SUCCESSOR)

    def successor_texts(self, wanted: Generation) -> dict[str, str]:
        """Return the files of a successor's unit by name: everything of `wanted` that is not in its place yet."""
        folder = pinch_beside.folder(SUCCESSOR)
        lines = [f"EnvironmentFile={folder / Path(DEPLOYMENT).name}"]
        model = self.models / wanted.model
        own = "model_dir" in tomllib.loads(wanted.files[SETTINGS]) or MODEL in wanted.files[pinch_beside.SERVICE]
        if wanted.model and model.is_dir() and not own:
            lines.append(f"Environment={MODEL}{model}")
        program = self.home / "releases" / wanted.release / "bin" / "pinch"
        return {
            SUCCESSOR: wanted.files[pinch_beside.SERVICE],
            **{Path(name).name: wanted.files[name] for name in (SETTINGS, DEPLOYMENT)},
            "50-successor.conf": pinch_beside.drop_in(program, folder / Path(SETTINGS).name, *lines),
        }

    def tidy(self) -> bool:
        """Let a successor, if there is one, give back the store, and forget its unit; return whether there was one."""
        if not pinch_beside.folder(SUCCESSOR).exists():
            return False
        Board(self.home, self.launcher, self.models, SUCCESSOR).stop()
        pinch_beside.clear(SUCCESSOR)
        return True

    def restart(self) -> Start:
        """Start the unit anew, without waiting for it."""
        return Start(self.unit)

    def enable(self) -> None:
        """Let the unit start at boot; where it does not, systemd reads all units anew."""
        if not self.running().enabled:
            self._systemctl("enable", self.unit)

    def service(self, settings: str) -> Service:
        """Return a client of the service that runs with `settings`."""
        return Service(address(settings), first_token(TOKENS))

    def failing_checks(self) -> dict[str, str]:
        """Return what `pinch doctor` finds wrong, by the name of the check."""
        command = [self._command, "--json", "doctor"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_S)
            checks = json.loads(done.stdout)["checks"]
            return {str(each["name"]): str(each["found"]) for each in checks if each["status"] == "fail"}
        except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
            return {"doctor": f"pinch doctor does not work: {error}"}

    def words(self, until: float | None = None) -> str:
        """Return what the unit said last, before the moment `until` in seconds since 1970 where one is given."""
        command = ["journalctl", f"--unit={self.unit}", f"--lines={JOURNAL_LINES}", "--no-pager", "--output=cat"]
        command += [] if until is None else [f"--until=@{until:.6f}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return " / ".join(line for line in done.stdout.splitlines() if line.strip())

    def _systemctl(self, *words: str) -> None:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(0, (done.stderr or done.stdout).strip() or f"systemctl {' '.join(words)} failed", self.unit)
