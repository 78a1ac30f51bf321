"""One file beside a vendor's: written whole, removed, and judged by what is read after it.

Runs on the board as part of a module.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PENDING = "run/pinch-found"
"""Folder of the marks that a change has begun; it is in RAM, for a reboot finishes what they stand for."""


def read(path: Path) -> str | None:
    """Return a file's text, None where there is no such file."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def place(path: Path, text: str) -> None:
    """Write `text` to `path`, mode 0644, so that a power cut leaves either the old file or the new one."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def remove(path: Path) -> bool:
    """Remove a file for good; return whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    _flush(path.parent)
    return True


def diff(path: Path, wanted: str | None) -> dict[str, str] | None:
    """Return Ansible's diff of `path` against the text `wanted` (None: no file), or None where they agree."""
    before = read(path)
    if before == wanted:
        return None
    return {
        "before": before or "",
        "after": wanted or "",
        "before_header": str(path) if before is not None else "no file",
        "after_header": str(path) if wanted is not None else "no file",
    }


class Pending:
    """A mark, in RAM, that a change has begun: a run that finds it finishes what another one left half done."""

    def __init__(self, root: Path, name: str) -> None:
        """Look at the mark `name` of the board below `root`."""
        self.path = root / PENDING / f"{name}.pending"

    def __bool__(self) -> bool:
        return self.path.exists()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Set the mark, and take it away once the body is through; it stays where the body fails."""
        place(self.path, "")
        yield
        self.path.unlink(missing_ok=True)


def ordered(root: Path, folders: Sequence[str]) -> list[Path]:
    """Return the drop-ins of `folders` in the order systemd reads them: by name, whichever folder they are in.

    Of two files with one name the one in the earlier folder stands for both. `folders` are relative to `root`.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in (root / folder).glob("*.conf"):
            found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]


def assignments(text: str, section: str = "") -> Iterator[tuple[str, str]]:
    """Yield each `name = value` of a configuration file, of `section` where the format has sections."""
    here = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            here = stripped[1:-1]
        elif stripped and stripped[0] not in "#;" and here == section:
            name, equals, value = stripped.partition("=")
            if equals:
                yield name.strip(), value.strip()


def read_later(root: Path, folders: Sequence[str], name: str, section: str = "") -> Iterator[tuple[Path, str, str]]:
    """Yield (file, name, value) of every assignment that is read after the drop-in `name`, and so wins over it."""
    for path in ordered(root, folders):
        if path.name > name:
            for key, value in assignments(read(path) or "", section):
                yield path, key, value


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
