"""What the kernel says this process and its cgroup hold."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CGROUP_ROOT = Path("/sys/fs/cgroup")


class Cgroup(NamedTuple):
    """Memory files of this process's cgroup (version 2); bytes, None where there is no limit."""

    current_bytes: int
    high_bytes: int | None
    max_bytes: int | None
    swap_bytes: int
    oom_kill: int
    """Processes of the cgroup that the kernel has killed for memory."""


class Sample(NamedTuple):
    """One reading; bytes."""

    rss_bytes: int
    anonymous_bytes: int
    mapped_bytes: int
    """Resident file pages, model weights and libraries among them; the kernel can take them back."""
    cgroup: Cgroup | None
    pressure_signal: str
    """Where memory pressure can be read: `psi`, `memory.current` or `meminfo`."""


def sample() -> Sample:
    """Read `smaps_rollup` and the cgroup."""
    values = {}
    for line in Path("/proc/self/smaps_rollup").read_text("ascii").splitlines()[1:]:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    folder = cgroup_folder()
    group = read_cgroup(folder) if folder else None
    if folder is not None and (folder / "memory.pressure").exists():
        signal = "psi"
    else:
        signal = "memory.current" if group else "meminfo"
    return Sample(values["Rss"], values["Anonymous"], values["Rss"] - values["Anonymous"], group, signal)


def cgroup_folder(root: Path = CGROUP_ROOT) -> Path | None:
    """Return the cgroup of this process where its memory is controlled, else None."""
    for line in Path("/proc/self/cgroup").read_text("utf-8").splitlines():
        hierarchy, _, path = line.split(":", 2)
        folder = root / path.lstrip("/")
        if hierarchy == "0" and (folder / "memory.current").exists():
            return folder
    return None


def read_cgroup(folder: Path) -> Cgroup:
    """Read the memory files of one cgroup."""

    def number(name: str) -> int | None:
        path = folder / name
        text = path.read_text("ascii").strip() if path.exists() else "max"
        return None if text == "max" else int(text)

    events = dict(line.split() for line in (folder / "memory.events").read_text("ascii").splitlines())
    return Cgroup(
        current_bytes=number("memory.current") or 0,
        high_bytes=number("memory.high"),
        max_bytes=number("memory.max"),
        swap_bytes=number("memory.swap.current") or 0,
        oom_kill=int(events.get("oom_kill", 0)),
    )
