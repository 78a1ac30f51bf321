"""Files and links that are whole: a power cut leaves either the old one or the new one.

Runs on the board as part of a module.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

DROP_INS = (".conf.d", ".mount.d", ".service.d", ".swap.d")
"""How folders end that are there for what is in them alone."""


def read(path: Path) -> str | None:
    """Return a file's text, None where there is no such file."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def place(path: Path, text: str, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Write `text` to `path` in one step and make its folder.

    Args:
        path: the file; a link of that name gives way to it.
        text: what `read` returns of it.
        mode: its permissions. FAT shows its own whatever is asked for.
        owner: user and group. Where nobody is named it is whoever runs this, and nothing asks FAT, which has no
            owners and refuses the question on some mounts.

    Raises:
        OSError: naming a file; `path` is as it was, and nothing is beside it.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    # What a kill left, if any.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    flush(path.parent)


def point(link: Path, target: str) -> bool:
    """Let `link` point to `target` in one step and make its folder; return whether that changed anything."""
    if link.is_symlink() and str(link.readlink()) == target:
        return False
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
    flush(link.parent)
    return True


def remove(path: Path) -> bool:
    """Remove a file for good; return whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    flush(path.parent)
    return True


def clear(path: Path) -> bool:
    """Remove a file for good, and its folder where nothing else is in it; return whether there was a file."""
    removed = remove(path)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
    return removed


def put(path: Path, text: str | None) -> None:
    """Write `text` to `path`, or remove what is there where it is None; an empty folder of drop-ins goes with it."""
    if text is not None:
        place(path, text)
    elif path.parent.name.endswith(DROP_INS):
        clear(path)
    else:
        remove(path)


def flush(folder: Path) -> None:
    """Bring the names in a folder to the disk: without that a power cut may take a rename back."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
