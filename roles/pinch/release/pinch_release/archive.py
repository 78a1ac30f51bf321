"""The archive: one compressed tar of a release tree, the same bytes from the same tree."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from .errors import ReleaseError

EPOCH = 1_735_689_600
"""Modification time of every file, 2025-01-01 UTC: bytecode records it, so it must not vary."""
ZSTD_LEVEL = 12


def write_archive(root: Path, archive: Path) -> None:
    """Pack the folder `root` as `archive` (`.tar.zst`), entries sorted, owned by root, at one fixed time.

    Raises:
        ReleaseError: zstd is missing or fails.
    """
    zstd = shutil.which("zstd")
    if not zstd:
        raise ReleaseError("the program zstd was not found; install the Debian package zstd on the controller")
    # One thread: zstd's output differs between thread counts, and a release is named by its inputs.
    command = [zstd, "--quiet", "--single-thread", f"-{ZSTD_LEVEL}", "--force", "-o", str(archive)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        with tarfile.open(fileobj=process.stdin, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(root.rglob("*")):
                tar.add(path, arcname=str(path.relative_to(root)), recursive=False, filter=_plain)
        process.stdin.close()
        if process.wait():
            raise ReleaseError(f"zstd ended with status {process.returncode} writing {archive}; is the disk full?")


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = EPOCH
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry
