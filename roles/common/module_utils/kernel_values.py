"""Values in /proc and /sys: what stood there before is kept on the board and can be put back.

Runs on the board as part of a module. Names are absolute paths such as `/proc/sys/vm/swappiness`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.pinch_files import clear, place, read

COUNTERPARTS = {
    "/proc/sys/vm/dirty_ratio": "/proc/sys/vm/dirty_bytes",
    "/proc/sys/vm/dirty_bytes": "/proc/sys/vm/dirty_ratio",
    "/proc/sys/vm/dirty_background_ratio": "/proc/sys/vm/dirty_background_bytes",
    "/proc/sys/vm/dirty_background_bytes": "/proc/sys/vm/dirty_background_ratio",
}
"""Two names for one thing: the kernel sets one of them to 0 when the other is written."""


class KernelValueError(ValueError):
    """A value that the running kernel does not have or does not take."""


class Found(NamedTuple):
    """What puts a value back: this text into that file. None where the value was ours before anybody kept a record."""

    file: str
    value: str | None


class Change(NamedTuple):
    """What is to be done, by name."""

    write: dict[str, str]
    """Values that the kernel does not have yet."""
    restore: dict[str, Found]
    """Values that nobody asks for any more."""


class KernelValues:
    """The values that one role sets on a board."""

    def __init__(self, root: Path, record: Path, ours: Collection[str] = ()) -> None:
        """Look at the board below `root`.

        Args:
            root: folder that stands for `/`.
            record: file on the board that keeps what was found.
            ours: names that the role's own drop-in sets already.
        """
        self._root = root
        self._record = record
        self._ours = ours
        kept = json.loads(read(record) or "{}")
        self.found = {str(name): Found(str(entry["file"]), entry["value"]) for name, entry in kept.items()}

    def live(self, name: str) -> str:
        """Return the value that the kernel has, blanks made one.

        Raises:
            KernelValueError: it has none, or none that can be read.
        """
        try:
            return " ".join(self._path(name).read_text("utf-8").split())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KernelValueError(f"the running kernel has no {name}") from None
        except OSError as error:
            raise KernelValueError(
                f"{name} cannot be read back ({error.strerror}): it acts, it holds no value"
            ) from None

    def change(self, wanted: Mapping[str, str]) -> Change:
        """Say what it takes to have the values `wanted` and none of ours beside them.

        Raises:
            KernelValueError: the kernel lacks one of them.
        """
        write = {name: value for name, value in wanted.items() if self.live(name) != value}
        # A value whose counterpart is wanted now went to 0 by that: putting it back would undo what is wanted.
        gone = {name: found for name, found in self.found.items() if name not in wanted}
        restore = {name: found for name, found in gone.items() if COUNTERPARTS.get(name) not in wanted}
        return Change(write, restore)

    def write(self, wanted: Mapping[str, str]) -> None:
        """Keep what is there in the record, then set the values; all of them or none.

        Raises:
            KernelValueError: the kernel refuses one; the others are back to what they were.
        """
        new = {name: self._origin(name) for name in wanted if name not in self.found}
        if new:
            self.found |= new
            self._save()
        before: list[Found] = []
        try:
            for name, value in self.change(wanted).write.items():
                before.append(self._standing(name))
                self._set(name, value)
        except KernelValueError:
            for found in before:
                self._put_back(found)
            raise

    def forget(self, wanted: Mapping[str, str]) -> None:
        """Put back what is no longer wanted and drop it from the record."""
        gone = [name for name in self.found if name not in wanted]
        for found in self.change(wanted).restore.values():
            self._put_back(found)
        for name in gone:
            del self.found[name]
        if gone:
            self._save()

    def _origin(self, name: str) -> Found:
        if name in self._ours:
            return Found(name, None)
        return self.found.get(COUNTERPARTS.get(name, ""), self._standing(name))

    def _standing(self, name: str) -> Found:
        """Return what brings back the present state: 0 stands for "see the counterpart" and cannot be written."""
        value, other = self.live(name), COUNTERPARTS.get(name)
        if other and value == "0" and self._path(other).exists():
            return Found(other, self.live(other))
        return Found(name, value)

    def _put_back(self, found: Found) -> None:
        # What another kernel or another disk had is not here to be put back.
        if found.value is not None and self._path(found.file).exists():
            self._set(found.file, found.value)

    def _set(self, name: str, value: str) -> None:
        try:
            self._path(name).write_text(value + "\n", "utf-8")
        except OSError as error:
            raise KernelValueError(f"the kernel does not take {value!r} for {name}: {error.strerror}") from None
        if (found := self.live(name)) != value:
            raise KernelValueError(f"{name} is {found} after {value} was written to it")

    def _save(self) -> None:
        if self.found:
            kept = {name: found._asdict() for name, found in sorted(self.found.items())}
            place(self._record, json.dumps(kept, indent=1) + "\n")
        else:
            clear(self._record)

    def _path(self, name: str) -> Path:
        return self._root / name.lstrip("/")
