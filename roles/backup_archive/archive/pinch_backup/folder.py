"""The folder of a board's backups: names by time, a sum beside each, old ones removed only after a good new one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .age import HEADER
from .errors import BackupError

SUFFIX = ".age"
SUM = ".sha256"
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z\.age")


class Folder:
    """Backups of one board on the controller."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def backups(self) -> list[Path]:
        """Return the backups, newest first."""
        if not self.path.is_dir():
            return []
        return sorted((file for file in self.path.iterdir() if _NAME.fullmatch(file.name)), reverse=True)

    def newest(self) -> Path:
        """Return the newest backup.

        Raises:
            BackupError: there is none.
        """
        found = self.backups()
        if not found:
            raise BackupError(
                f"{self.path} holds no backup; expected one with the time as its name, such as 20260501T120000Z.age. "
                "Make one by backup.yml, or name a file in restore_file"
            )
        return found[0]

    @contextmanager
    def arriving(self, name: str) -> Iterator[Path]:
        """Yield where to write the backup `name`; it gets its name and its sum when it is whole.

        Raises:
            BackupError: it exists already.
        """
        file = self.path / name
        if file.exists():
            raise BackupError(f"{file} exists already; wait a second and run again")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        partial.unlink(missing_ok=True)
        try:
            yield partial
            _to_disk(partial)
            note = file.with_name(file.name + SUM)
            note.write_text(f"{digest(partial)}  {file.name}\n", "utf-8")
            _to_disk(note)
            partial.rename(file)
            _to_disk(self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def prune(self, keep: int, fresh: Path) -> list[str]:
        """Remove the oldest backups beyond `keep` once `fresh` is seen to be whole; 0 keeps all. Return their names.

        Raises:
            BackupError: `fresh` is not whole; nothing is removed.
        """
        verify(fresh)
        going = self.backups()[keep:] if keep else []
        for file in going:
            if file != fresh:
                file.unlink()
                file.with_name(file.name + SUM).unlink(missing_ok=True)
        return [file.name for file in going if file != fresh]


def digest(file: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def verify(file: Path, least_bytes: int = 0) -> None:
    """Refuse a file that is no whole backup, as far as that can be told without a key.

    Raises:
        BackupError: no file of age, too short, or another sum than the one beside it.
    """
    try:
        with file.open("rb") as content:
            head = content.read(len(HEADER))
    except OSError as error:
        raise BackupError(f"{file}: {error.strerror}; expected a backup that backup.yml made") from None
    if head != HEADER:
        raise BackupError(f"{file} is no file of age; expected a backup that backup.yml made")
    if file.stat().st_size < least_bytes:
        raise BackupError(f"{file} has {file.stat().st_size} bytes; expected {least_bytes} at least. Make it again")
    note = file.with_name(file.name + SUM)
    if note.exists():
        wanted = note.read_text("utf-8").split()
        found = digest(file)
        if not wanted or found != wanted[0]:
            raise BackupError(
                f"{file} has sha256 {found[:16]}…, and {note.name} says {(wanted or ['nothing'])[0][:16]}…: it was cut "
                "or changed since it was made; take another, or fetch it again"
            )


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
