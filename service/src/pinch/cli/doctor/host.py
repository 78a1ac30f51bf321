"""What the checks look at, and what they find."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from attrs import field, frozen

from pinch.settings import Settings
from pinch.tiers import Machine, Tier

UNIT = "pinch.service"
_UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_CLOCK_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""
_TIMEX_BYTES = 512
"""More than a `struct timex` takes on any architecture (208 bytes on 64-bit ones)."""


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@frozen
class Finding:
    """One line of the report."""

    name: str
    status: Status
    found: str
    advice: str = ""
    """What to do, unless all is well."""


@frozen
class Volume:
    """The file system a folder is on."""

    free_bytes: int
    total_bytes: int
    read_only: bool


@frozen
class Trial:
    """How a program run on trial ended; negative statuses are signals."""

    status: int
    output: str


def volume_of(path: Path) -> Volume:
    """Ask the kernel about the file system of `path`."""
    status = os.statvfs(path)
    block = status.f_frsize
    return Volume(status.f_bavail * block, status.f_blocks * block, bool(status.f_flag & os.ST_RDONLY))


def kernel_clock_synchronised() -> bool | None:
    """Whether the kernel holds its clock for synchronised; None where it cannot be asked."""
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if answer < 0 else answer != _CLOCK_UNSYNCHRONISED


@frozen
class Host:
    """The machine to check, or a tree of files that stands for one."""

    root: Path
    settings: Settings
    tier: Tier
    machine: Machine
    now: datetime
    python: Sequence[str] = field(factory=lambda: (sys.executable,))
    """Command that runs trials in a process of their own."""
    volume: Callable[[Path], Volume] = volume_of
    clock_synchronised: Callable[[], bool | None] = kernel_clock_synchronised

    def path(self, name: str) -> Path:
        """Return where the absolute path `name` is below the root."""
        return Path(name) if self.root == Path("/") else self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """Return the text of a file, or None where it is not there or will not be read."""
        try:
            return self.path(name).read_text("utf-8", "replace")
        except OSError:
            return None

    @property
    def unit_installed(self) -> bool:
        """Whether systemd runs the service here."""
        return any((self.path(folder) / UNIT).exists() for folder in _UNIT_FOLDERS)

    def trial(self, *arguments: str, timeout_s: float = 180.0) -> Trial:
        """Run Python on `arguments` with this import path, apart, so a crash of native code stays there."""
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        try:
            ended = subprocess.run(
                [*self.python, *arguments], env=environ, capture_output=True, text=True, errors="replace",
                timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Trial(1, f"no answer within {timeout_s:.0f} s")
        except OSError as error:
            return Trial(1, f"{self.python[0]} cannot be run: {error.strerror}")
        lines = (ended.stdout.strip() or ended.stderr.strip()).splitlines()
        return Trial(ended.returncode, lines[-1] if lines else "")
