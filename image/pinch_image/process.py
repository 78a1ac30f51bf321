"""One background process, known by its id and its start time, so that nobody else's is ever signalled in its place."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .failure import ImageError

POLL_S = 0.2


@dataclass(frozen=True)
class Process:
    """A process; `started` is its start time in clock ticks since boot (proc(5), field 22)."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Tell whether it still runs; a zombie does not."""
        return _start_time(self.pid) == self.started

    def kill(self) -> None:
        """End it and what it started at once, without a chance to write anything, and wait until it is gone."""
        if self.alive():
            os.killpg(self.pid, signal.SIGKILL)
            if not self.wait(30):
                raise ImageError(f"Process {self.pid} did not end when killed; its disk may hang.")

    def wait(self, seconds: float) -> bool:
        """Wait for its end at most so long; tell whether it has ended."""
        limit = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > limit:
                return False
            _reap(self.pid)
            time.sleep(POLL_S)
        return True


def spawn(command: Sequence[str], output: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Start a process that outlives us, its output in a file; `environment` comes on top of ours."""
    with output.open("wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=os.environ | (environment or {}),
        )
    started = _start_time(child.pid)
    # Reaped by `wait`, or by init once we are gone: Popen must not complain that it is still running.
    child.returncode = 0
    return Process(child.pid, started or 0)


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in brackets may hold anything, even a bracket.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
