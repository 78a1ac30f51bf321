"""One file beside a vendor's: compared, and judged by what is read after it.

Runs on the board as part of a module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible.module_utils.pinch_files import place, read

PENDING = "run/pinch-found"
"""Folder of the marks that a change has begun; it is in RAM, for a reboot finishes what they stand for."""


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
