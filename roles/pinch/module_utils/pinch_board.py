"""The board that runs the service: its unit, links and files, its doctor and its journal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible.module_utils import pinch_beside
from ansible.module_utils.pinch_files import place, point, remove
from ansible.module_utils.pinch_generations import Generation
from ansible.module_utils.pinch_paths import DEPLOYMENT, SERVICE, SETTINGS, TOKENS
from ansible.module_utils.pinch_service import Service, address, first_token
from ansible.module_utils.pinch_unit import Running, Start, look

UNITS = "/etc/systemd/system/"
MODEL = "PINCH_MODEL_DIR="
SUCCESSOR = "pinch-successor.service"
"""Unit of a release that takes over, while the service's own unit changes."""
JOURNAL_LINES = 30
COMMAND_S = 120


class Board:
    """The board, to be asked and to be changed."""

    def __init__(self, home: Path, launcher: Path, models: Path, unit: str) -> None:
        self.home = home
        self.launcher = launcher
        self.models = models
        self.unit = unit

    def running(self) -> Running:
        """Look at the unit."""
        return look(self.unit, self.home)

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
            remove(Path(name))
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
        if wanted.model and model.is_dir() and MODEL not in wanted.files[SERVICE]:
            lines.append(f"Environment={MODEL}{model}")
        program = self.home / "releases" / wanted.release / "bin" / "pinch"
        return {
            SUCCESSOR: wanted.files[SERVICE],
            **{Path(name).name: wanted.files[name] for name in (SETTINGS, DEPLOYMENT)},
            "50-successor.conf": pinch_beside.drop_in(program, folder / Path(SETTINGS).name, *lines),
        }

    def tidy(self) -> bool:
        """Let a successor, if there is one, give back the store, and forget its unit; return whether there was one."""
        found: bool = pinch_beside.clear(SUCCESSOR)
        return found

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
