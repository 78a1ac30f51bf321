"""Lists what is on a board's disk, so that two moments can be compared; prints it as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = (
    "/dev", "/proc", "/run", "/sys", "/tmp", "/lost+found",
    # What any hour of running writes: logs, caches, clocks, seeds, and where Ansible itself works.
    "/var/log", "/var/cache", "/var/tmp", "/var/lib/systemd", "/var/lib/private", "/home/pi/.ansible", "/root/.ansible",
    # What useradd and userdel keep of the state before, and how they take turns.
    "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-", "/etc/.pwd.lock",
)  # fmt: skip
READ = ("/etc/", "/boot/")
"""Where contents count too; elsewhere kind, owner and permissions do."""


def entries(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each path below `folder` with a word that changes when it does."""
    with os.scandir(folder) as listing:
        for entry in sorted(listing, key=lambda each: each.name):
            if entry.path in LEFT_OUT:
                continue
            status = entry.stat(follow_symlinks=False)
            yield entry.path, word(entry.path, status)
            if stat.S_ISDIR(status.st_mode):
                yield from entries(entry.path)


def word(path: str, status: os.stat_result) -> str:
    """Return mode, owner and, where it counts, what is inside."""
    said = f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"
    if stat.S_ISLNK(status.st_mode):
        return f"{said} -> {Path(path).readlink()}"
    if stat.S_ISREG(status.st_mode) and path.startswith(READ):
        return f"{said} {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}"
    return said


def main() -> None:
    """Print everything."""
    print(json.dumps(dict(entries("/"))))


if __name__ == "__main__":
    main()
