"""Swap files: what lies where one is wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .layout import read


class SwapFile(NamedTuple):
    """What lies where a swap file is wanted."""

    path: str
    exists: bool = False
    swap_page_bytes: int = 0
    """Page size of its swap header; 0 where it is no swap file."""
    size_bytes: int = 0
    folder: bool = True
    """Whether the folder is there."""
    filesystem: str = ""
    free_bytes: int = 0


def inspect_file(root: Path, path: str) -> SwapFile:
    """Return what lies at `path`, without following a link."""
    file = root / path.lstrip("/")
    parent = file.parent
    while not parent.exists():
        parent = parent.parent
    room = os.statvfs(parent)
    exists = file.is_symlink() or file.exists()
    return SwapFile(
        path=path,
        exists=exists,
        swap_page_bytes=swap_header(file),
        size_bytes=file.lstat().st_size if exists else 0,
        folder=file.parent.is_dir(),
        filesystem=filesystem_of(read(root / "proc/mounts"), path),
        free_bytes=room.f_bavail * room.f_frsize,
    )


def swap_header(file: Path) -> int:
    """Return the page size in bytes for which `file` was made a swap file, 0 where it is none."""
    if file.is_symlink() or not file.is_file():
        return 0
    with file.open("rb") as content:
        for page in (4096, 16384, 65536):
            content.seek(page - 10)
            if content.read(10) == b"SWAPSPACE2":
                return page
    return 0


def filesystem_of(mounts: str, path: str) -> str:
    """Return the kind of file system on which `path` lies, by the lines of `/proc/mounts`."""
    best = ("", "")
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split()
        inside = point in {"/", path} or path.startswith(f"{point}/")
        best = (point, kind) if inside and len(point) >= len(best[0]) else best
    return best[1]
