"""What a process holds, read from the kernel after a moment of quiet."""

from __future__ import annotations

import time
from pathlib import Path

KIBIBYTE = 1024
SETTLE_S = 2.5
"""Seconds in which the service notices that clients have gone and gives their memory back."""


def resident_kb(pid: int, kind: str = "Rss") -> int:
    """Return what `smaps_rollup` says of a process, KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1])
    raise KeyError(kind)


def settled_kb(pid: int) -> int:
    """Return the resident memory once nothing happens any more, KiB."""
    time.sleep(SETTLE_S)
    return resident_kb(pid)
