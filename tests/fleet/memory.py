"""Memory of a process and all it started, watched until it ends."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil

EVERY_S = 0.5


class Watched(NamedTuple):
    """A command that ran: peaks in bytes over the whole tree, shared pages counted once, and where most of it was."""

    status: int
    output: str
    seconds: float
    peak_bytes: int
    peak_processes: int


def watch(command: list[str], cwd: Path, environment: dict[str, str], limit_s: float) -> Watched:
    """Run a command to its end and look at its tree's memory twice a second.

    Raises:
        subprocess.TimeoutExpired: it took longer than `limit_s`; it has been killed.
    """
    begin = time.monotonic()
    done = threading.Event()
    peaks = [0, 0]
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:

        def look() -> None:
            while not done.wait(EVERY_S):
                sizes = _sizes(process.pid)
                peaks[0] = max(peaks[0], sum(sizes))
                peaks[1] = max(peaks[1], len(sizes))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            done.set()
            watcher.join()
    return Watched(process.returncode, output.decode("utf-8", "replace"), time.monotonic() - begin, *peaks)


def _sizes(pid: int) -> list[int]:
    """Return the proportional set size of each process of a tree, in bytes."""
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    sizes = []
    for process in tree:
        try:
            sizes.append(int(process.memory_full_info().pss))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return sizes
